"""The lock of a data folder: one dagmaster at a time, and who it is.

The kernel holds the lock (`flock`), so it ends with the process, however that ends. What stands in the file only tells
about the holder, and counts only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dagmaster.db.places import make_data_folder, unusable
from dagmaster.errors import DataFolderInUse

LOCK_NAME = "lock"
RECORD_BYTES = 1024
"""The record is padded to this and written at once, so that nobody reads half of one."""
READERS_SECONDS_MAX = 0.5
"""Somebody who only looks holds the lock for an instant; a holder holds it for longer than this."""
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that owns a data folder, and where it answers, if it said so."""

    pid: int
    url: str | None


class DataFolderLock:
    """Holds a data folder for this process, from `acquire` to `release` or to its death."""

    def __init__(self, data: Path, url: str | None = None) -> None:
        self.data = data.absolute()
        self._url = url
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder, making it when it is missing. Errors: DataFolderInUse, DataFolderUnusable."""
        if self._descriptor is not None:
            return
        make_data_folder(self.data)
        try:
            descriptor = os.open(self.data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise unusable(self.data, problem) from problem
        if not _lock_soon(descriptor):
            holder = _read_record(descriptor)
            os.close(descriptor)
            where = f"it answers at {holder.url}" if holder is not None and holder.url is not None else None
            raise DataFolderInUse(data=self.data, pid=holder.pid if holder is not None else "unknown", where=where)
        self._descriptor = descriptor
        self._write_record()

    def publish(self, url: str) -> None:
        """Tell others where the holder answers."""
        self._url = url
        self._write_record()

    def release(self) -> None:
        """Give the folder back. Does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def read(data: Path) -> Holder | None:
        """Who holds the folder now, or None."""
        try:
            descriptor = os.open(data / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None  # no such folder, or none that was ever held
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_record(descriptor)
        else:
            return None
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write_record(self) -> None:
        if self._descriptor is None:
            raise RuntimeError("the data folder is not held")
        record = json.dumps({"pid": os.getpid(), "url": self._url}).encode()
        os.pwrite(self._descriptor, record.ljust(RECORD_BYTES - 1) + b"\n", 0)


def _lock_soon(descriptor: int) -> bool:
    deadline = time.monotonic() + READERS_SECONDS_MAX
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        else:
            return True


def _read_record(descriptor: int) -> Holder | None:
    try:
        record = json.loads(os.pread(descriptor, RECORD_BYTES, 0))
        return Holder(pid=int(record["pid"]), url=record["url"])
    except (ValueError, KeyError, TypeError):
        return None  # held for so short a time that it has not said who it is
