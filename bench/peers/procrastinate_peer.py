"""The workloads on Procrastinate: `python procrastinate_peer.py URI WORKLOAD`; prints one JSON document.

It has no graphs: in a chain each task defers the next, and a fan-in is a counter that the last child brings to zero.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from procrastinate import App, PsycopgConnector

SHORT, JOBS = 5, 500
CONCURRENCY, POLL_SECONDS = 20, 0.05
uri, workload = sys.argv[1:]
app = App(connector=PsycopgConnector(conninfo=uri, max_size=CONCURRENCY + 4))
left = 0
over = asyncio.Event()
began_at: list[float] = []


@app.task
async def link(remaining: int) -> None:
    global left
    if remaining > 1:
        await link.defer_async(remaining=remaining - 1)
        return
    left -= 1
    if not left:
        over.set()


@app.task
async def child() -> None:
    global left
    began_at.append(time.perf_counter())
    async with app.connector.pool.connection() as conn:  # type: ignore[attr-defined]
        found = await (await conn.execute("UPDATE bench_fan SET missing = missing - 1 RETURNING missing")).fetchone()
    left = found[0]
    if not left:
        over.set()


async def expect(children: int) -> None:
    async with app.connector.pool.connection() as conn:  # type: ignore[attr-defined]
        await conn.execute("CREATE TABLE IF NOT EXISTS bench_fan (missing int)")
        await conn.execute("TRUNCATE bench_fan")
        await conn.execute("INSERT INTO bench_fan VALUES (%s)", (children,))


async def fan(width: int) -> float:
    over.clear()
    await expect(width)
    began = time.perf_counter()
    await child.batch_defer_async(*({} for _ in range(width)))
    await over.wait()
    return time.perf_counter() - began


def peak_mb() -> float:
    """Not by `getrusage`, which counts what the process was before it became this program."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


async def run() -> Any:
    global left
    if workload == "A":
        took = []
        for _ in range(5):
            over.clear()
            left, began = 1, time.perf_counter()
            await link.defer_async(remaining=20)
            await over.wait()
            took.append((time.perf_counter() - began) / 20 * 1000)
        return statistics.median(took[1:])
    if workload.startswith("B"):
        return await fan(int(workload[1:]))
    if workload == "C":
        left, began = JOBS, time.perf_counter()
        await asyncio.gather(*(link.defer_async(remaining=SHORT) for _ in range(JOBS)))
        await over.wait()
        return JOBS * SHORT / (time.perf_counter() - began)
    if workload == "D":
        took = []
        for _ in range(50):
            over.clear()
            await expect(1)
            asked = time.perf_counter()
            await child.defer_async()
            await over.wait()
            took.append((began_at[-1] - asked) * 1000)
            await asyncio.sleep(0.1)
        return statistics.median(took)
    if workload == "memory":
        await fan(1_000)
        return peak_mb()
    raise ValueError(workload)


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=POLL_SECONDS,
                install_signal_handlers=False,
                delete_jobs="never",
            )
        )
        await asyncio.sleep(1)
        value = await run()
        worker.cancel()
    sys.stdout.write(json.dumps({"value": value}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
