"""The documents tell the truth: generated pages are current, links resolve, named files and tests exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from house.reference import FOLDER, PAGES
from simulation.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_generated_page_is_current(page: str) -> None:
    assert (FOLDER / page).read_text("utf-8") == PAGES[page](), "run: python tests/house/reference.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_tour_names_only_files_that_exist() -> None:
    named = re.findall(r"`(src/[\w/.]+)`", (ROOT / "docs" / "tour.md").read_text("utf-8"))
    assert len(named) > 10
    for file in named:
        assert (ROOT / file).is_file(), file


def test_guarantees_name_only_tests_that_exist() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    file = ""
    named = re.findall(r"`(tests/[\w/.]+)?(?:::(\w+))?`", text)
    assert len(named) > 10
    for path, test in named:
        file = path or file
        assert (ROOT / file).is_file(), file
        if test:
            assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"


def test_guarantees_name_only_mutants_that_exist() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    named = re.findall(r"(?<=[,s(t] )`([a-z-]+)`", " ".join(re.findall(r"mutants? [^|]*", text)))
    named += re.findall(r"mutant `([a-z-]+)`", text)
    assert len(named) > 30
    assert set(named) <= set(MUTANTS)


def test_every_command_has_help() -> None:
    from typer.main import get_command

    from dagmaster.cli.commands import app

    waiting = [get_command(app)]
    while waiting:
        command = waiting.pop()
        waiting.extend(getattr(command, "commands", {}).values())
        assert command.help, command.name
