#!/bin/sh
# Makes the lock files in requirements/ from pyproject.toml: tools/lock.sh [--upgrade]
#
# Every set is a part of `test`, so the three files always agree: `test` is solved first and its pins are laid under the
# others, where uv takes an existing output file as its preference. The files carry hashes and no index address, so
# they install from any mirror.

set -eu
cd "$(dirname "$0")/.."

uv=$(command -v uv || :)
[ -x .venv/bin/uv ] && uv=.venv/bin/uv
[ -n "$uv" ] || { echo "error[LOCK_FAILED]: there is no uv here" >&2; echo "  fix: make test  # installs it into .venv" >&2; exit 1; }

compile() {    # compile SET OPTION...
    output=requirements/$1.txt
    shift
    "$uv" pip compile pyproject.toml "$@" --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --output-file "$output" >/dev/null
    if grep -n '://' "$output"; then
        echo "error[LOCK_FAILED]: $output names an address" >&2
        exit 1
    fi
    echo "$output: $(grep -c '^[A-Za-z0-9]' "$output") packages"
}

compile test --extra test --group build "$@"
cp requirements/test.txt requirements/demo.txt
compile demo --extra demo --group build
cp requirements/test.txt requirements/runtime.txt
compile runtime
