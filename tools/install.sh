#!/bin/sh
# Installs dagmaster into a virtual environment from a hash-pinned lock file: tools/install.sh demo|runtime|test
#
# Does nothing, without network, when the environment already is what the lock file and pyproject.toml ask for.
# VENV names another folder than .venv, PYTHON another interpreter. It changes nothing outside of the environment,
# with one exception: where Debian's Python cannot make an environment it installs python3-venv, if it may.

set -eu
cd "$(dirname "$0")/.."

set_name=${1:-demo}
venv=${VENV:-.venv}
lock=requirements/$set_name.txt
stamp=$venv/.dagmaster-installed    # what is installed; written last
unfinished=$venv/.dagmaster-unfinished    # there from the first moment to the last: the environment is half-made
mutex=$venv.lock
python_needed="3.11"
wait_seconds_max=900

# Settings of the person's shell that would send the packages elsewhere, or make pip talk.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_REQUIRE_VIRTUALENV=0

main() {
    [ -f "$lock" ] || fail "there is no lock file $lock" "name one of: demo, runtime, test"
    is_current "$set_name" && exit 0
    take_mutex
    is_current "$set_name" && exit 0    # another run made it while we waited
    refuse_foreign_environment
    make_environment
    install_packages
    write_stamp
    say "installed in $(($(date +%s) - started)) s"
}

say() { printf '%s\n' "$*" >&2; }

fail() {    # fail FACT FIX
    say "error[INSTALL_FAILED]: $1"
    say "  fix: $2"
    exit 1
}

# --- is there anything to do? -----------------------------------------------------------------------

is_current() {
    [ -f "$stamp" ] && [ ! -e "$unfinished" ] && grep -qxF "$(stamp_line "$1")" "$stamp" \
        && "$venv/bin/python" -c '' 2>/dev/null
}

stamp_line() {    # one line per installed set; a moved folder gets a new environment, since scripts hold their path
    printf '%s %s %s' "$1" "$(cat "requirements/$1.txt" pyproject.toml | cksum | tr ' ' '-')" "$(pwd -P)/$venv"
}

write_stamp() {
    { stamp_line "$set_name"; echo; if [ "$set_name" = test ]; then stamp_line demo; echo; stamp_line runtime; echo; fi; } \
        >"$stamp"
    rm -f "$unfinished"
}

# --- one at a time, and safe to interrupt -------------------------------------------------------------

take_mutex() {
    waited=0
    until mkdir "$mutex" 2>/dev/null; do
        [ -d "$mutex" ] || fail "cannot write in $(pwd)" "run it in a folder that you may write to"
        holder=$(cat "$mutex/pid" 2>/dev/null || :)
        if [ -n "$holder" ] && ! ps -p "$holder" >/dev/null 2>&1 && ! [ -d "/proc/$holder" ]; then
            rm -rf "$mutex"    # its owner was killed
            continue
        fi
        [ "$waited" -eq 0 ] && say "another install (process ${holder:-unknown}) is at work, waiting …"
        [ "$waited" -lt "$wait_seconds_max" ] || fail "another install holds $mutex since long" "rm -r $mutex"
        sleep 1
        waited=$((waited + 1))
    done
    echo $$ >"$mutex/pid"
    trap 'stop_progress; rm -rf "$mutex"' EXIT
    trap 'say "interrupted; the next run starts over"; exit 130' INT TERM HUP
    started=$(date +%s)
}

refuse_foreign_environment() {
    [ -n "$(ls -A "$venv" 2>/dev/null)" ] || return 0
    [ -e "$stamp" ] || [ -e "$unfinished" ] || fail "$venv exists and was not made by this script" \
        "move it away, or choose another folder: VENV=.venv-dagmaster make $set_name"
}

# --- the environment ----------------------------------------------------------------------------------

make_environment() {
    if [ -f "$stamp" ] && [ ! -e "$unfinished" ] && grep -qF " $(pwd -P)/$venv" "$stamp" \
        && "$venv/bin/python" -c "$python_fits" 2>/dev/null; then
        touch "$unfinished"    # same place, same Python: only the packages change
        return
    fi
    rm -rf "$venv"
    find_python
    mkdir -p "$venv"
    touch "$unfinished"
    log=$venv/install.log
    "$python" -m venv "$venv" >"$log" 2>&1 || {
        cat "$log" >&2
        fail "$python could not make an environment in $venv" "read the lines above; PYTHON=/path/to/python3 names another Python"
    }
}

python_fits='import sys; sys.exit(sys.version_info < (3, 11))'
python_makes_environments="import ensurepip, venv; $python_fits"

find_python() {    # the first that can do it all; else the first that lacks only what Debian packs apart
    candidates=${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python /usr/bin/python3}
    python=
    for candidate in $candidates; do
        if "$candidate" -c "$python_makes_environments" >/dev/null 2>&1; then
            python=$candidate
            return
        fi
        if [ -z "$python" ] && "$candidate" -c "$python_fits" >/dev/null 2>&1; then python=$candidate; fi
    done
    [ -n "$python" ] || no_python
    add_venv_package
}

no_python() {
    found=$("${PYTHON:-python3}" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || found=
    if [ -n "$found" ]; then
        fail "Python $found is too old, dagmaster needs $python_needed or newer" \
            "install a newer Python, or name one: PYTHON=/path/to/python3.11 make $set_name"
    fi
    fail "there is no ${PYTHON:-python3} here, dagmaster needs Python $python_needed or newer" \
        "install it (Debian, Ubuntu: ${sudo_word}apt-get install -y python3 python3-venv)"
}

sudo_word=
[ "$(id -u)" -eq 0 ] || sudo_word="sudo "

add_venv_package() {
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package=python$version-venv
    if [ "$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ]; then
        package=python3-venv
    fi
    as_root=
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "$python lacks the modules venv and ensurepip" "install them, or name another Python: PYTHON=/path/to/python3 make $set_name"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        as_root="sudo -n"
        sudo -n true 2>/dev/null || fail "$python lacks the modules venv and ensurepip" "sudo apt-get install -y $package"
    fi
    say "installing $package with apt, since $python lacks venv and ensurepip …"
    apt_log=$(mktemp)
    # The package lists of a fresh container are empty, so a first failure is answered by fetching them.
    # shellcheck disable=SC2086  # as_root is empty or two words
    if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" ||
        { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "$package"; }; } >"$apt_log" 2>&1 </dev/null; then
        tail -n 5 "$apt_log" >&2
        rm -f "$apt_log"
        fail "apt could not install $package" "${sudo_word}apt-get update && ${sudo_word}apt-get install -y $package"
    fi
    rm -f "$apt_log"
    "$python" -c "$python_makes_environments" >/dev/null 2>&1 ||
        fail "$python still lacks venv and ensurepip" "name another Python: PYTHON=/path/to/python3 make $set_name"
}

# --- the packages -------------------------------------------------------------------------------------

install_packages() {
    log=$venv/install.log
    count=$(grep -c '^[A-Za-z0-9]' "$lock")
    say "installing up to $count packages into $venv …"
    : >"$log"
    tell_progress &
    teller=$!
    # The lock file is complete, so nothing is left for pip to resolve.
    pip_install --no-deps --require-hashes -r "$lock" || install_failed "the packages of $lock could not be installed"
    stop_progress
    # The build backend came with the lock file (runtime has none and needs none: it installs a built wheel).
    if [ "$set_name" != runtime ]; then
        pip_install --no-index --no-deps --no-build-isolation --editable . || install_failed "dagmaster itself could not be installed"
    fi
}

pip_install() { "$venv/bin/python" -m pip install --progress-bar off --no-warn-script-location "$@" >>"$log" 2>&1 </dev/null; }

install_failed() {
    tail -n 6 "$log" | sed 's/^/  | /' >&2
    fail "$1" "read the lines above (all of them are in $log), then run the same command again"
}

teller=

stop_progress() {
    [ -z "$teller" ] || kill "$teller" 2>/dev/null || :
    teller=
}

tell_progress() {    # for as long as the install goes on, also if that is killed
    while sleep 10 >/dev/null 2>&1 && [ -e "$unfinished" ] && [ -d "$mutex" ]; do
        fetched=$(grep -c '^Collecting ' "$log" 2>/dev/null) || fetched=0
        say "  … $fetched looked at, $(($(date +%s) - started)) s"
    done
}

main
