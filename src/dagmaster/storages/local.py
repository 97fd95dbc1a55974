"""A folder as object storage: containers are its sub-folders, staged objects lie apart until they are published."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from dagmaster.errors import FileNotFound, PathRefused, StorageError
from dagmaster.storages.base import ObjectInfo

STAGED = ".staged"
CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")
SEGMENT_BYTES_MAX = 255
PATH_BYTES_MAX = 1024


def open_at(place: str) -> LocalStorage:
    """The storage in the folder `place`."""
    return LocalStorage(Path(place))


class LocalStorage:
    """Everything below `root`; a path never leaves its container, by name or by link."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, container: str, path: str, target: Path) -> int:
        source = self._existing(container, path)
        shutil.copyfile(source, target)
        return target.stat().st_size

    def stage(self, source: Path, container: str, path: str, token: str) -> str:
        """Copied and flushed, not linked: the handler may go on writing to its own file."""
        self._visible(container, path)
        target = self._staged_folder(token) / container / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
            writer.flush()
            os.fsync(writer.fileno())
        return f"{token}/{container}/{path}"

    def publish(self, staged: str, container: str, path: str) -> None:
        token, _, rest = staged.partition("/")
        source = self._staged_folder(token) / self._relative(rest)
        target = self._visible(container, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except FileNotFoundError as problem:
            if not target.is_file():
                raise StorageError(problem=f"nothing is staged as {staged}") from problem
        _flush_folder(target.parent)
        self._remove_empty(source.parent, self._staged_folder(token).parent)

    def discard(self, token: str) -> None:
        shutil.rmtree(self._staged_folder(token), ignore_errors=True)

    def staged(self) -> list[str]:
        folder = self.root / STAGED
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def head(self, container: str, path: str) -> ObjectInfo:
        return self._info(container, self._existing(container, path))

    def list(self, container: str, prefix: str = "") -> list[ObjectInfo]:
        folder = self._container(container)
        files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        found = [self._info(container, file) for file in files]
        return sorted((info for info in found if info.path.startswith(prefix)), key=lambda info: info.path)

    def delete(self, container: str, path: str) -> bool:
        target = self._visible(container, path)
        try:
            target.unlink()
        except FileNotFoundError:
            return False
        self._remove_empty(target.parent, self._container(container))
        return True

    def locate(self, container: str, path: str) -> str:
        return str(self._existing(container, path))

    # --- paths -------------------------------------------------------------------------------------

    def _container(self, container: str) -> Path:
        if not CONTAINER.fullmatch(container) or "--" in container:
            raise PathRefused(
                path=container, why="A container has 3 to 63 lower-case letters, digits and single hyphens."
            )
        return self.root / container

    def _relative(self, path: str) -> PurePosixPath:
        parts = path.split("/")
        wrong = (
            not path
            or len(path.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX
            or any(ord(letter) < 32 or letter in "\\\x7f" or 0xD800 <= ord(letter) <= 0xDFFF for letter in path)
            or any(part in ("", ".", "..") or part.startswith(STAGED) for part in parts)
            or any(len(part.encode("utf-8", "surrogatepass")) > SEGMENT_BYTES_MAX for part in parts)
        )
        if wrong:
            raise PathRefused(path=path)
        return PurePosixPath(*parts)

    def _visible(self, container: str, path: str) -> Path:
        """Where an object lies; refused when a link on the way leads out of the container."""
        folder = self._container(container)
        target = folder / self._relative(path)
        if not target.resolve().is_relative_to(folder.resolve()):
            raise PathRefused(path=path, why="A link on the way leads out of the container.")
        return target

    def _existing(self, container: str, path: str) -> Path:
        target = self._visible(container, path)
        if not target.is_file():
            raise FileNotFound(path=f"{container}/{path}")
        return target

    def _staged_folder(self, token: str) -> Path:
        if not TOKEN.fullmatch(token):
            raise PathRefused(path=token)
        return self.root / STAGED / token

    def _info(self, container: str, file: Path) -> ObjectInfo:
        status = file.stat()
        path = file.relative_to(self._container(container)).as_posix()
        return ObjectInfo(container, path, status.st_size, status.st_mtime)

    def _remove_empty(self, folder: Path, stop: Path) -> None:
        """Folders that hold nothing any more go, up to `stop`; one that is filled meanwhile stays."""
        while folder != stop and folder.is_relative_to(stop):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _flush_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
