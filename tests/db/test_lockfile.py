"""One dagmaster at a time owns a data folder, and says who it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagmaster.db.lockfile import DataFolderLock, Holder
from dagmaster.errors import DataFolderInUse, DataFolderUnusable

HOLDER = """
import sys, time
from pathlib import Path
from dagmaster.db.lockfile import DataFolderLock
lock = DataFolderLock(Path(sys.argv[1]), url="http://127.0.0.1:8000")
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_held_folder_names_its_holder(data_folder: Path) -> None:
    with DataFolderLock(data_folder) as lock:
        assert DataFolderLock.read(data_folder) == Holder(os.getpid(), None)
        lock.publish("http://127.0.0.1:8000")
        assert DataFolderLock.read(data_folder) == Holder(os.getpid(), "http://127.0.0.1:8000")
    assert DataFolderLock.read(data_folder) is None


def test_a_second_holder_is_refused_with_the_pid_of_the_first(data_folder: Path) -> None:
    with DataFolderLock(data_folder, url="http://127.0.0.1:8000"):
        with pytest.raises(DataFolderInUse, match=str(os.getpid())) as refused:
            DataFolderLock(data_folder).acquire()
        assert "http://127.0.0.1:8000" in (refused.value.where or "")


def test_a_released_folder_can_be_taken_again(data_folder: Path) -> None:
    for _ in range(2):
        with DataFolderLock(data_folder):
            pass


def test_the_lock_of_a_killed_process_is_gone(data_folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        held_by = DataFolderLock.read(data_folder)
        holder.kill()
        holder.wait()
    assert held_by == Holder(holder.pid, "http://127.0.0.1:8000")
    assert DataFolderLock.read(data_folder) is None
    with DataFolderLock(data_folder):
        pass


def test_a_folder_that_was_never_held_has_no_holder(data_folder: Path) -> None:
    assert DataFolderLock.read(data_folder) is None


def test_a_folder_beneath_a_file_is_unusable(session_folder: Path) -> None:
    file = session_folder / "not-a-folder"
    file.write_text("")
    with pytest.raises(DataFolderUnusable):
        DataFolderLock(file / "data").acquire()
