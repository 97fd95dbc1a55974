"""A folder as object storage: containers are its sub-folders, staged objects lie apart until they are published.

Staged and published objects are on one file system, so that a rename publishes. Every write is flushed, file and
folders, before it is answered: what an accepted attempt staged is still there after a power cut.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dagmaster.errors import DiskFull, FileNotFound, PathRefused, StorageError, means_disk_full
from dagmaster.storages.base import ObjectInfo

STAGED = ".staged"
CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")
SEGMENT_BYTES_MAX = 255
PATH_BYTES_MAX = 1024
COPY_BYTES = 1024 * 1024
PUBLISH_TRIES_MAX = 100
"""A folder may be emptied and removed by others just before a file arrives in it; it is made again so often."""

REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, halves of characters, and separators of lines."""


def open_at(place: str) -> LocalStorage:
    """The storage in the folder `place`."""
    return LocalStorage(Path(place))


class LocalStorage:
    """Everything below `root`; a path never leaves its container, by name or by link."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def fetch(self, container: str, path: str, target: Path) -> int:
        source = self._existing(container, path)
        try:
            shutil.copyfile(source, target)
        except OSError as problem:
            target.unlink(missing_ok=True)
            if means_disk_full(problem):
                raise DiskFull(where_full="the scratch folder") from problem
            raise
        return target.stat().st_size

    def stage(self, source: Path, container: str, path: str, token: str) -> str:
        """Copied, not linked: a link would let the handler go on changing what was accepted."""
        self._visible(container, path)
        target = self._staged_folder(token) / container / path
        _make_folder(target.parent)
        try:
            with source.open("rb") as reader, target.open("wb") as writer:
                shutil.copyfileobj(reader, writer, COPY_BYTES)
                writer.flush()
                os.fsync(writer.fileno())
        except BaseException as problem:
            target.unlink(missing_ok=True)  # half a file on a full disk helps nobody
            if means_disk_full(problem):
                raise DiskFull(where_full="the storage", remedy="Free space in the storage.") from problem
            raise
        _flush_folder(target.parent)
        return f"{token}/{container}/{path}"

    def publish(self, staged: str, container: str, path: str) -> None:
        token, _, rest = staged.partition("/")
        source = self._staged_folder(token) / self._relative(rest)
        target = self._visible(container, path)
        try:
            self._move(source, target, staged)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as problem:
            why = "An object cannot lie below another object, nor replace a folder."
            raise StorageError(problem=f"{container}/{path} cannot be a file", why=why, retryable=False) from problem
        self._remove_empty(source.parent, self._staged_folder(token).parent)

    def discard(self, token: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._staged_folder(token))

    def staged(self) -> list[str]:
        folder = self.root / STAGED
        return (
            sorted(entry.name for entry in folder.iterdir() if TOKEN.fullmatch(entry.name)) if folder.is_dir() else []
        )

    def head(self, container: str, path: str) -> ObjectInfo:
        return _info(container, path, self._existing(container, path))

    def list(self, container: str, prefix: str = "") -> list[ObjectInfo]:
        return sorted(self._objects(container, prefix), key=lambda info: info.path)

    def delete(self, container: str, path: str) -> bool:
        target = self._visible(container, path)
        if target.is_dir():
            return False
        try:
            target.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        _flush_folder(target.parent)
        self._remove_empty(target.parent, self._container(container))
        return True

    def locate(self, container: str, path: str) -> str:
        return str(self._existing(container, path))

    # --- files -------------------------------------------------------------------------------------

    def _move(self, source: Path, target: Path, staged: str) -> None:
        """Rename, and make the rename durable; the second time there is nothing left to move."""
        for _ in range(PUBLISH_TRIES_MAX):
            try:
                _make_folder(target.parent)
                source.replace(target)
                _flush_folder(target.parent)
                return
            except FileNotFoundError:
                if not source.exists():
                    break  # else a folder on the way went away
        if not target.is_file():
            raise StorageError(problem=f"nothing is staged as {staged}", remedy="Run the job again.", retryable=False)

    def _objects(self, container: str, prefix: str) -> Iterator[ObjectInfo]:
        folder = self._container(container)
        for place, _, names in os.walk(folder):
            for file in (Path(place, name) for name in names):
                path = file.relative_to(folder).as_posix()
                if path.startswith(prefix) and not file.is_symlink():
                    with contextlib.suppress(FileNotFound):  # deleted while the list is made
                        yield _info(container, path, file)

    def _remove_empty(self, folder: Path, stop: Path) -> None:
        """Folders that hold nothing any more go, up to `stop`; one that is filled meanwhile stays."""
        while folder != stop and folder.is_relative_to(stop):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    # --- paths -------------------------------------------------------------------------------------

    def _container(self, container: str) -> Path:
        if not CONTAINER.fullmatch(container) or "--" in container:
            why = "A container has 3 to 63 lower-case letters, digits and single hyphens."
            raise PathRefused(path=container, why=why)
        return self.root / container

    def _relative(self, path: str) -> PurePosixPath:
        parts = path.split("/")
        wrong = (
            len(_bytes(path)) > PATH_BYTES_MAX
            or "\\" in path
            or any(unicodedata.category(letter) in REFUSED_CATEGORIES for letter in path)
            or any(part in ("", ".", "..") or part.startswith(STAGED) for part in parts)
            or any(len(_bytes(part)) > SEGMENT_BYTES_MAX for part in parts)
        )
        if wrong:
            raise PathRefused(path=path)
        return PurePosixPath(*parts)

    def _visible(self, container: str, path: str) -> Path:
        """Where an object lies; refused when a link on the way leads out of the container."""
        folder = self._container(container)
        target = folder / self._relative(path)
        try:
            stays = target.resolve().is_relative_to(self.root.resolve() / container)
        except (OSError, RuntimeError):  # links that lead in a circle
            stays = False
        if not stays:
            raise PathRefused(path=path, why="A link on the way leads out of the container.")
        return target

    def _existing(self, container: str, path: str) -> Path:
        target = self._visible(container, path)
        if not target.is_file():
            raise FileNotFound(path=f"{container}/{path}")
        return target

    def _staged_folder(self, token: str) -> Path:
        if not TOKEN.fullmatch(token):
            raise PathRefused(path=token, why="A token has letters, digits, `_` and `-` only.")
        return self.root / STAGED / token


def _info(container: str, path: str, file: Path) -> ObjectInfo:
    try:
        status = file.stat()
    except FileNotFoundError as problem:
        raise FileNotFound(path=f"{container}/{path}") from problem
    return ObjectInfo(container, path, status.st_size, status.st_mtime)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; each new name is made durable in the folder that holds it."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _flush_folder(new.parent)


def _flush_folder(folder: Path) -> None:
    """Make new and renamed files durable; nothing to do where the folder is gone already."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
