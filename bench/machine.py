"""What the machine says about processes, and what a commit costs on its Postgres."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

TICKS = os.sysconf("SC_CLK_TCK")
COMMITS = 500


def commit_ms(uri: str) -> float:
    """The median of a one-row update with its commit, one client, in milliseconds."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_commit (id int PRIMARY KEY, n int)")
        connection.execute("INSERT INTO bench_commit VALUES (1, 0) ON CONFLICT DO NOTHING")
        took = []
        for _ in range(COMMITS):
            began = perf_counter()
            connection.execute("UPDATE bench_commit SET n = n + 1 WHERE id = 1")
            took.append(perf_counter() - began)
        connection.execute("DROP TABLE bench_commit")
    return statistics.median(took) * 1000


def family(pid: int) -> list[int]:
    """A process with all that it started, but without the servers of Postgres."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            if Path(f"/proc/{one}/comm").read_text().startswith("postgres"):
                continue
            found.append(one)
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting.extend(int(child) for child in (task / "children").read_text().split())
        except OSError:
            continue  # gone meanwhile
    return found


def peak_mb(pids: list[int]) -> float:
    """The most that the processes have had since `forget_peak`, added up, in MB."""
    return sum(_status_kb(pid, "VmHWM") for pid in pids) * 1024 / 1e6


def forget_peak(pids: list[int]) -> None:
    """Count peaks from here on."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that the processes have had."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def described(uri: str) -> dict[str, Any]:
    """The machine in a few words, without its name."""
    with psycopg.connect(uri) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return {
        "cores": cores,
        "memory_gib": round(memory),
        "python": platform.python_version(),
        "postgres": row[0].split()[0],
    }


def _status_kb(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(name)
