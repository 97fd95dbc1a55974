"""Where workflows are found: the bundled shelf, folders given by the operator, or a file named by its path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dagmaster.dag.definition import Definition, as_text, load
from dagmaster.dag.findings import listing, near_miss
from dagmaster.dag.yaml_source import BYTES_MAX
from dagmaster.errors import WorkflowUnknown

SUFFIXES = (".yaml", ".yml")
BUNDLED = Path(__file__).parent.parent / "workflows"


def bundled() -> dict[str, Path]:
    """The workflows that come with dagmaster; a file is named by its id."""
    return _shelf(BUNDLED)


def available(folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Every workflow by its id; a folder wins over those before it, and all of them over the bundled shelf."""
    found = bundled()
    for folder in folders:
        found |= _shelf(folder)
    return dict(sorted(found.items()))


def find(name_or_path: str, folders: Iterable[Path] = (), *, paths: bool = True) -> Definition:
    """The definition of that id, or in the file of that name.

    A name that came over the network is looked up with `paths=False`: it must not reach the file system.
    """
    return read(place(name_or_path, folders, paths=paths))


def place(name_or_path: str, folders: Iterable[Path] = (), *, paths: bool = True) -> Path:
    """The file that `find` reads. Errors: WorkflowUnknown."""
    known = available(folders)
    path = known.get(name_or_path)
    if path is None and paths and _is_path(name_or_path):
        path = Path(name_or_path)
    if path is None or not path.is_file():
        guess = near_miss(name_or_path, known)
        why = None if path is None else "There is no such file."
        remedy = f"Did you mean `{guess}`?" if guess else f"dagmaster workflow list shows them: {listing(known, 20)}."
        raise WorkflowUnknown(workflow_id=name_or_path, why=why, remedy=remedy)
    return path


def read(path: Path) -> Definition:
    """The definition in a file."""
    return load(text(path), str(path))


def text(path: Path) -> str:
    """The text of a file; no more of it is read than a workflow may hold. Errors: WorkflowInvalid, OSError."""
    with path.open("rb") as file:
        return as_text(file.read(BYTES_MAX + 1), str(path))


def _shelf(folder: Path) -> dict[str, Path]:
    files = (path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES) if folder.is_dir() else iter(())
    return {path.stem: path for path in files}


def _is_path(text: str) -> bool:
    return "\0" not in text and (text.endswith(SUFFIXES) or "/" in text)
