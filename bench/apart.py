"""Throughput with orchestrators and workers as processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.ours import INLINE, Ours, middle
from dagmaster.db.connect import open_pool
from dagmaster.db.embedded import EmbeddedPostgres
from dagmaster.db.migrate import migrate
from dagmaster.handlers.manifest import bundled_specs

PROGRAM = Path(sys.executable).with_name("dagmaster")
WARM_UP_SECONDS = 6


def scaling(folder: Path, repetitions: int) -> dict[str, list[float]]:
    """C with two orchestrators, and with four workers, each divided by C with one of both."""
    folder.mkdir()
    with EmbeddedPostgres(folder / "server") as server:
        migrate(server.uri)
        found = {}
        for orchestrators, workers in ((1, 1), (2, 1), (1, 4)):
            with processes(server.uri, folder, orchestrators, workers):
                found[orchestrators, workers] = asyncio.run(throughput(server.uri, repetitions))
    one, _ = middle(found[1, 1])
    return {
        "C, 2 orchestrators ÷ 1": [each / one for each in found[2, 1]],
        "C, 4 workers ÷ 1": [each / one for each in found[1, 4]],
    }


@contextmanager
def processes(uri: str, folder: Path, orchestrators: int, workers: int) -> Iterator[None]:
    """They end before the block does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGMASTER_")}
    environment |= {
        "DAGMASTER_DATABASE_URL": uri,
        "DAGMASTER_STORAGE": f"file:{folder / 'storage'}",
        "DAGMASTER_SCRATCH": str(folder / "scratch"),
        "DAGMASTER_LOG_LEVEL": "error",
    }
    commands = [["orchestrator"]] * orchestrators + [["worker", "--processes", "1"]] * workers
    running = [subprocess.Popen([str(PROGRAM), *command, "--quiet"], env=environment) for command in commands]
    try:
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(timeout=30)


async def throughput(uri: str, repetitions: int) -> list[float]:
    pool = await open_pool(uri, size_max=4)
    async with pool:
        ours = Ours(uri, pool, dict(bundled_specs()), [])
        await asyncio.sleep(WARM_UP_SECONDS)
        await ours.throughput(INLINE)
        return [await ours.throughput(INLINE) for _ in range(repetitions)]
