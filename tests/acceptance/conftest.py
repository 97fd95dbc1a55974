"""The program as a user has it: separate processes, a data folder, exit codes and what is printed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dagmaster.run.demo import sample_raster
from waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("dagmaster"))
START_SECONDS = 60


class Program:
    """Runs commands against one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.through: tuple[str, ...] = ()
        """What the program is started through, such as `unshare`."""
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGMASTER_")}
        self.environment |= {"DAGMASTER_DATA": str(data), "COLUMNS": "200"}

    def run(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.through, PROGRAM, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *words: str, code: int = 0, timeout: float = 120) -> Any:
        """Run with --json; stdout must be exactly one JSON document."""
        done = self.run(*words, "--json", timeout=timeout)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def up(self, *words: str) -> Iterator[Up]:
        """`dagmaster up` in a process group of its own; killed at the end if it still runs."""
        with (self.data.parent / f"{self.data.name}.log").open("a+") as log:
            process = subprocess.Popen(
                [*self.through, PROGRAM, "up", *words],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
            try:
                assert process.stdout is not None
                url = process.stdout.readline().strip()
                assert url.startswith("http://127.0.0.1:"), f"not up: {Path(log.name).read_text()}"
                yield Up(process, url)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=30)
                if process.stdout is not None:
                    process.stdout.close()


class Up:
    """A running `dagmaster up`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def job(self, job_id: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/jobs/{job_id}", timeout=30, trust_env=False)
        answer.raise_for_status()
        return answer.json()  # type: ignore[no-any-return]  # an object by contract

    def until(self, job_id: str, *statuses: str, timeout: float = 60) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["status"] in statuses else None

        found = eventually(there, timeout)
        assert found is not None
        return found

    def descendants(self) -> set[int]:
        """Process ids of everything it started."""
        parents: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    parents.setdefault(int(fields[1]), []).append(int(folder.name))
        found: set[int] = set()
        waiting = [self.process.pid]
        while waiting:
            children = parents.get(waiting.pop(), [])
            found.update(children)
            waiting.extend(children)
        return found

    def kill_group(self) -> None:
        """kill -9 of the whole process group, as a crash of the machine's session does it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


def alive(pids: set[int]) -> set[int]:
    """Which of the processes still run (zombies do not)."""
    running = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                running.add(pid)
    return running


@pytest.fixture(scope="session")
def raster(session_folder: Path) -> Path:
    """NASA's Blue Marble, 5400 x 2700 x 3 uint8, as an untiled GeoTIFF: the real input of the main job."""
    return asyncio.run(sample_raster(session_folder / "sample"))


@pytest.fixture
def program(data_folder: Path) -> Program:
    """A program with a data folder that does not exist yet."""
    return Program(data_folder)


@pytest.fixture(scope="module")
def shared_program(session_folder: Path) -> Program:
    """A program whose data folder is kept through one file of tests: starting from nothing costs seconds."""
    return Program(session_folder / f"shared-{time.monotonic_ns()}")


@pytest.fixture
def fleet(database_uri: str, tmp_path: Path) -> Iterator[Any]:
    """A `Fleet` around a database of its own; its processes are killed at the end."""
    from acceptance.fleet import Fleet

    made = Fleet(database_uri, tmp_path)
    yield made
    made.end()
