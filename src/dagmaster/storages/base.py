"""The shelf's promise: bytes below a container, read as files, written once, published by one atomic step.

A reference is `container/path`. A write goes to a *staged* key that no reader sees; `publish` makes it
visible at its path in one step, replacing what was there. Publishing the same staged key again is success.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a storage knows of one object."""

    container: str
    path: str
    size_bytes: int
    modified_at: float
    """Seconds since the epoch."""


class Storage(Protocol):
    """One place for bytes. Errors: PathRefused for a path that leaves its container, FileNotFound, StorageError."""

    def fetch(self, container: str, path: str, target: Path) -> int:
        """Copy the object to the local file `target`; returns its size in bytes."""

    def stage(self, source: Path, container: str, path: str, token: str) -> str:
        """Store the local file under a staged key made of `token` and the path; returns that key."""

    def publish(self, staged: str, container: str, path: str) -> None:
        """Make the staged object visible at container/path, in one step. Idempotent."""

    def discard(self, token: str) -> None:
        """Remove everything staged under `token` that was not published."""

    def staged(self) -> list[str]:
        """The tokens under which something is staged."""

    def head(self, container: str, path: str) -> ObjectInfo:
        """Facts about one published object."""

    def list(self, container: str, prefix: str = "") -> list[ObjectInfo]:
        """Published objects below a prefix, ordered by path."""

    def delete(self, container: str, path: str) -> bool:
        """Remove an object; False when there was none."""

    def locate(self, container: str, path: str) -> str:
        """An address that GDAL opens: a local path or a /vsi… path."""
