"""House rules about files: SQL in its folders, no address of a machine or a registry, everything listed and told."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SOURCE = PROJECT / "src" / "dagmaster"
PASSED_OVER = {
    ".git",
    ".venv",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".dagmaster",
}

SQL_WORDS = r"(SELECT\s.*?\sFROM\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\()"
SQL_ANYWHERE = re.compile(rf"\b{SQL_WORDS}", re.DOTALL)
SQL_AT_START = re.compile(rf"\s*{SQL_WORDS}", re.DOTALL | re.IGNORECASE)

ADDRESSES = re.compile(
    "|".join(
        [
            r"\bpypi\.(org|io)",
            r"pythonhosted",
            r"registry\.npmjs",
            r"deb\.debian\.org",
            r"security\.debian\.org",
            r"(?<![\w./-])/work(?![\w-])",
            r"/root/\.",
            r"\.pyenv\b",
            r"/opt/(pypi|wheels)",
        ]
    )
)


def test_no_sql_in_python_strings() -> None:
    found = [
        f"{file.relative_to(PROJECT)}:{line}: {text.strip()[:60]!r}"
        for file in sorted(SOURCE.rglob("*.py"))
        for line, text in sql_strings(file.read_text())
    ]
    assert not found, "move these to the sql/ folder of their room:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "planted",
    [
        'run("SELECT id FROM jobs WHERE x")',
        'run("select id\\nfrom jobs\\nwhere x")',
        'run("insert into jobs values (1)")',
        'run(f"UPDATE {table} SET x = 1")',
        'run("DELETE " "FROM jobs ")',
        'run("WITH due AS (SELECT 1)")',
    ],
)
def test_planted_sql_is_found(planted: str) -> None:
    assert list(sql_strings(planted))


@pytest.mark.parametrize("honest", ['"""Select one from many, or delete from it."""', 'say("choose one; update it")'])
def test_prose_is_not_sql(honest: str) -> None:
    assert not list(sql_strings(honest))


def sql_strings(source: str) -> Iterator[tuple[int, str]]:
    """The line and text of every string that looks like SQL; docstrings are prose."""
    tree = ast.parse(source)
    prose = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    parts = {id(part) for each in ast.walk(tree) if isinstance(each, ast.JoinedStr) for part in each.values}
    for node in ast.walk(tree):
        if id(node) in prose or id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        else:
            continue
        if SQL_ANYWHERE.search(text) or SQL_AT_START.match(text):
            yield node.lineno, text


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for file in project_files():
        if file == Path(__file__):
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(text.splitlines(), 1):
            if match := ADDRESSES.search(line):
                found.append(f"{file.relative_to(PROJECT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["runtime", "demo", "test"])
def test_lock_files_have_hashes_and_no_address(name: str) -> None:
    lock = (PROJECT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in lock
    assert not re.search(r"^\s*-", lock.replace("    --hash", "hash"), re.MULTILINE), "no options, no index"
    packages = re.findall(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9]|\Z)", lock, re.MULTILINE | re.DOTALL)
    assert packages
    assert [each.splitlines()[0] for each in packages if "--hash=sha256:" not in each] == []


def test_lock_files_agree() -> None:
    pins = {name: _pins(name) for name in ("runtime", "demo", "test")}
    assert pins["runtime"] < pins["demo"] < pins["test"]


def test_lock_files_hold_every_direct_dependency() -> None:
    locked = {pin.split("==")[0] for pin in _pins("test")}
    text = (PROJECT / "pyproject.toml").read_text()
    project = text.split("[project]")[1].split("[project.scripts]")[0]
    named = re.findall(r'^\s*(?:\w+ = \[)?"([A-Za-z0-9._-]+)(?:\[[\w,]+\])?[>=<]', project, re.MULTILINE)
    assert len(named) > 20
    assert {each.lower().replace("_", "-").replace(".", "-") for each in named} - locked == set()


def _pins(name: str) -> set[str]:
    return set(
        re.findall(r"^([A-Za-z0-9][^ ;\\]*)", (PROJECT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)
    )


def test_make_help_lists_every_target() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)[0].split())
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # `make test` runs this
    command = ["make", "--no-print-directory", "help"]
    listed = subprocess.run(command, cwd=PROJECT, env=alone, capture_output=True, text=True, check=True).stdout
    assert targets == phony
    assert {line.split()[1] for line in listed.splitlines()} == targets


def test_changelog_has_an_unreleased_section() -> None:
    assert re.search(r"^## \[Unreleased\]$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_scripts_can_be_run() -> None:
    scripts = [PROJECT / ".ci" / "run", *(PROJECT / "tools").glob("*.sh")]
    assert [each.name for each in scripts if not each.stat().st_mode & 0o100] == []


def project_files() -> Iterator[Path]:
    """Every file of the project, whether git knows it yet or not; nothing that is ignored."""
    if (PROJECT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if names.returncode == 0:
            yield from (file for name in names.stdout.split("\0") if name and (file := PROJECT / name).is_file())
            return
    for file in PROJECT.rglob("*"):
        if file.is_file() and not PASSED_OVER & set(file.relative_to(PROJECT).parts):
            yield file
