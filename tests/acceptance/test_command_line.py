"""What holds for every command: one JSON document when asked for, and names at the Tab key."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from acceptance.conftest import PROGRAM, Program, Up
from dagmaster.cli.commands import app

SERVICES = {"up", "orchestrator", "worker"}
"""These run until they are stopped and print no result."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(group, "commands"):
        for name, each in group.commands.items():
            yield from commands(each, (*path, name))
    else:
        yield " ".join(path), group


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SERVICES))
def test_every_command_with_a_result_prints_json(name: str) -> None:
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_explained(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    unexplained = [
        parameter.name
        for parameter in command.params
        if parameter.param_type_name == "option"
        if not getattr(parameter, "help", None) and parameter.name not in ("help", "limit")
    ]
    assert not unexplained


@pytest.fixture(scope="module")
def up(shared_program: Program) -> Iterator[Up]:
    with shared_program.up() as running:
        yield running


def offered(program: Program, line: str) -> list[str]:
    """What bash would offer at the end of the line."""
    words = line.split(" ")
    asked = {
        "_DAGMASTER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [PROGRAM], env=program.environment | asked, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return [word for word in done.stdout.split("\n") if word]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dagmaster wor", {"workflow", "worker"}),
        ("dagmaster run raster_", {"raster_ingest", "raster_validate_test"}),
        ("dagmaster workflow show hello", {"hello_world"}),
        ("dagmaster handler run raster.c", {"raster.create_cog"}),
        ("dagmaster explain RASTER_TOO", {"RASTER_TOO_LARGE"}),
        ("dagmaster jobs --status FA", {"FAILED"}),
    ],
)
def test_names_are_offered(shared_program: Program, line: str, expected: set[str]) -> None:
    assert set(offered(shared_program, line)) == expected


def test_job_ids_are_offered_while_a_dagmaster_is_up(up: Up, shared_program: Program) -> None:
    job_id = shared_program.run("submit", "hello_world").stdout.strip()
    assert job_id in offered(shared_program, "dagmaster status ")
    assert offered(shared_program, f"dagmaster watch {job_id[:30]}") == [job_id]


def test_nothing_is_offered_and_nothing_said_when_none_is_up(program: Program) -> None:
    assert offered(program, "dagmaster status ") == []
    assert not program.data.exists(), "a proposal starts nothing"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(program: Program, shell: str) -> None:
    done = subprocess.run(
        [PROGRAM],
        env=program.environment | {"_DAGMASTER_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "_DAGMASTER_COMPLETE" in done.stdout
