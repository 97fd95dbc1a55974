"""A context without any engine: scratch folders, a folder as storage, and a memory of all that was said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dagmaster.contract.handlers import Effect
from dagmaster.errors import FileNotFound, PathRefused
from dagmaster.storages.base import ObjectInfo, Storage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """rasterio multiplies affine matrices as they used to be multiplied, and warns of rasters that we refuse."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*:rasterio.errors.NotGeoreferencedWarning"))


class FolderStorage:
    """The smallest storage that keeps the shelf's promise."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, container: str, path: str, target: Path) -> int:
        shutil.copyfile(self._existing(container, path), target)
        return target.stat().st_size

    def stage(self, source: Path, container: str, path: str, token: str) -> str:
        key = f"{token}/{container}/{path}"
        target = self.root / ".staged" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return key

    def publish(self, staged: str, container: str, path: str) -> None:
        target = self._place(container, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.root / ".staged" / staged).replace(target)

    def discard(self, token: str) -> None:
        shutil.rmtree(self.root / ".staged" / token, ignore_errors=True)

    def staged(self) -> list[str]:
        return sorted(each.name for each in (self.root / ".staged").glob("*"))

    def head(self, container: str, path: str) -> ObjectInfo:
        facts = self._existing(container, path).stat()
        return ObjectInfo(container, path, facts.st_size, facts.st_mtime)

    def list(self, container: str, prefix: str = "") -> list[ObjectInfo]:
        folder = self.root / container
        names = sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())
        return [self.head(container, name) for name in names if name.startswith(prefix)]

    def delete(self, container: str, path: str) -> bool:
        place = self._place(container, path)
        there = place.is_file()
        place.unlink(missing_ok=True)
        return there

    def locate(self, container: str, path: str) -> str:
        return str(self._existing(container, path))

    def _place(self, container: str, path: str) -> Path:
        if path.startswith("/") or ".." in path.split("/"):
            raise PathRefused(path=path)
        return self.root / container / path

    def _existing(self, container: str, path: str) -> Path:
        place = self._place(container, path)
        if not place.is_file():
            raise FileNotFound(path=f"{container}/{path}")
        return place


class Desk:
    """A Context that remembers."""

    def __init__(self, folder: Path) -> None:
        self.job_id, self.node_id, self.attempt, self.attempt_token = "job-1", "node", 1, "job-1.node.1"
        self.scratch, self.job_scratch = folder / "scratch", folder / "job"
        self.scratch.mkdir()
        self.job_scratch.mkdir()
        self.stored = folder / "storage"
        self.storage: Storage = FolderStorage(self.stored)
        self.reported: list[tuple[float, str]] = []
        self.effects: list[Effect] = []
        self.saved: tuple[int, dict[str, Any]] = (0, {})

    def progress(self, percent: float, message: str = "") -> None:
        self.reported.append((percent, message))

    def cancelled(self) -> bool:
        return False

    def log(self, message: str, **fields: Any) -> None: ...

    def publish(self, effect: Effect) -> None:
        self.effects.append(effect)

    def checkpoint(self, phase: int, data: dict[str, Any]) -> None:
        self.saved = (phase, data)

    def resume(self) -> tuple[int, dict[str, Any]]:
        return self.saved

    def put(self, container: str, path: str, source: Path) -> None:
        """An object that was there before."""
        place = self.stored / container / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A context of its own for one test."""
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder)
