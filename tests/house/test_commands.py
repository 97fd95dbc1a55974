"""Every command line that we show to people is one that the program understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from dagmaster.cli import codes
from dagmaster.cli.commands import app
from dagmaster.cli.program import EXAMPLES
from house.test_docs import DOCUMENTS, ROOT

BLOCK = re.compile(r"^```(?:console|bash|sh|text)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:\$ )?dagmaster ([a-z][^\n]*)$", re.MULTILINE)
QUOTED = re.compile(r"`dagmaster ([a-z][^`\n]*)`")
NO_JOB = "00000000-0000-7000-8000-000000000000"
VERBS = get_command(app).commands.keys()  # type: ignore[attr-defined]  # it is a group


def shown() -> Iterator[tuple[str, str]]:
    """Where a command line stands, and what follows the program's name."""
    for document in DOCUMENTS:
        if document.name in ("command-line.md", "errors.md"):
            continue  # generated: their sources come below
        text = document.read_text("utf-8")
        place = str(document.relative_to(ROOT))
        for block in BLOCK.findall(text):
            joined = block.replace("\\\n", " ")
            yield from ((place, line) for line in LINE.findall(joined) if line.split()[0] in VERBS)
        yield from ((place, line) for line in QUOTED.findall(text) if line.split()[0] in VERBS)
    for name, examples in EXAMPLES.items():
        yield from ((f"help of {name}", example.removeprefix("dagmaster ")) for example in examples)


def remedies() -> Iterator[tuple[str, str]]:
    """Commands that errors send people to: as many words of each as are a command and its arguments."""
    for code, error in codes.known().items():
        if match := re.search(r"(?<!let )\bdagmaster ([a-z]+(?: [a-z]+)*)", str(error.remedy)):
            yield code, match[1]


def understood(words: list[str]) -> None:
    """Errors: whatever the parser refuses."""
    command: Any = get_command(app)
    name = "dagmaster"
    while True:
        context = command.make_context(name, list(words))
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize(("place", "line"), sorted(set(shown())))
def test_command_line_is_understood(place: str, line: str) -> None:
    line = re.sub(r"\bJOB\b", NO_JOB, line)
    words = shlex.split(re.sub(r"\s{2,}#.*$| > .*$| \|.*$", "", line).replace("…", "").strip())
    understood(words)


@pytest.mark.parametrize(("code", "line"), sorted(remedies()))
def test_remedy_names_a_command(code: str, line: str) -> None:
    words = line.split()
    group: Any = get_command(app)
    assert words[0] in group.commands, f"{code} sends people to `dagmaster {line}`"
    nested = getattr(group.commands[words[0]], "commands", None)
    assert nested is None or words[1] in nested, f"{code} sends people to `dagmaster {line}`"
