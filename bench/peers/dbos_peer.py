"""The workloads on DBOS, direct in one process: `python dbos_peer.py URI WORKLOAD`; prints one JSON document."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig

STEPS, SHORT, JOBS = 20, 5, 500
started: list[float] = []


@DBOS.step()
async def nothing() -> str:
    return "done"


@DBOS.step()
async def first() -> str:
    started.append(time.perf_counter())
    return "done"


@DBOS.workflow()
async def chain(steps: int) -> None:
    for _ in range(steps):
        await nothing()


@DBOS.workflow()
async def fan(width: int) -> int:
    return len(await asyncio.gather(*(nothing() for _ in range(width))))


@DBOS.workflow()
async def one() -> None:
    await first()


def peak_mb() -> float:
    """Not by `getrusage`, which counts what the process was before it became this program."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


async def run(workload: str) -> Any:
    if workload == "A":
        took = []
        for _ in range(13):
            began = time.perf_counter()
            await chain(STEPS)
            took.append((time.perf_counter() - began) / STEPS * 1000)
        return statistics.median(took[3:])
    if workload.startswith("B"):
        began = time.perf_counter()
        await fan(int(workload[1:]))
        return time.perf_counter() - began
    if workload == "C":
        began = time.perf_counter()
        handles = await asyncio.gather(*(DBOS.start_workflow_async(chain, SHORT) for _ in range(JOBS)))
        await asyncio.gather(*(handle.get_result() for handle in handles))
        return JOBS * SHORT / (time.perf_counter() - began)
    if workload == "D":
        took = []
        for _ in range(50):
            began = time.perf_counter()
            handle = await DBOS.start_workflow_async(one)
            await handle.get_result()
            took.append((started[-1] - began) * 1000)
            await asyncio.sleep(0.1)
        return statistics.median(took)
    if workload == "memory":
        await fan(1_000)
        return peak_mb()
    raise ValueError(workload)


def main() -> None:
    uri, workload = sys.argv[1:]
    config: DBOSConfig = {"name": "bench", "system_database_url": uri, "log_level": "ERROR", "run_admin_server": False}
    DBOS(config=config)
    DBOS.launch()
    value = asyncio.run(run(workload))
    sys.stdout.write(json.dumps({"value": value}) + "\n")
    sys.stdout.flush()
    DBOS.destroy()


if __name__ == "__main__":
    main()
