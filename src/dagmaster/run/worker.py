"""Puts a worker together: its executors, its slots, what it announces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dagmaster.contract.local import LocalEngine
from dagmaster.db.connect import Pool, open_pool
from dagmaster.db.notify import TASKS
from dagmaster.engine.ownership import process_name
from dagmaster.engine.wake import hear
from dagmaster.executors.base import Executor
from dagmaster.executors.gdal import gdal_environment, registered_drivers
from dagmaster.executors.inline import InlineExecutor
from dagmaster.executors.limits import Limits
from dagmaster.executors.processes import ProcessExecutor
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.handlers.outside import Outside
from dagmaster.run.garbage import calm_garbage_collector
from dagmaster.storages import open_storage
from dagmaster.worker.sweep import Sweeper
from dagmaster.worker.worker import Worker

QUEUES = ("light", "heavy", "functionapp-tasks", "container-tasks", "dag-worker-tasks")
"""Every queue name that a worker without a list of its own serves; the last three are the original's."""
INLINE_SLOTS = 16
PRELOAD = ("raster.validate", "raster.create_cog")


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker needs to know of its surroundings."""

    uri: str
    storage: str
    scratch: Path
    processes: int
    memory_mib: int
    queues: Sequence[str] = QUEUES
    name: str | None = None
    outside: Outside = field(default_factory=Outside)
    """Handlers from outside the package; they run in children only."""


async def make_worker(plan: WorkerPlan, pool: Pool, engine: LocalEngine | None = None) -> Worker:
    """A worker ready to run; lists GDAL's drivers once, so that its children are born without the dangerous ones."""
    registered = await asyncio.to_thread(registered_drivers)
    environment = gdal_environment(registered)
    executors: dict[str, Executor] = {
        "inline": InlineExecutor(plan.scratch, plan.storage),
        "process": ProcessExecutor(
            size=plan.processes,
            scratch=plan.scratch,
            storage=plan.storage,
            environment=environment,
            limits=Limits(memory_mib=plan.memory_mib),
            preload=PRELOAD,
            homes=plan.outside.homes,
        ),
    }
    sweeper = Sweeper(pool, plan.scratch, open_storage(plan.storage))
    return Worker(
        plan.name or process_name(),
        plan.uri,
        pool,
        {**plan.outside.specs, **bundled_specs()},
        executors,
        {"inline": INLINE_SLOTS, "process": plan.processes},
        list(plan.queues),
        sweeper,
        engine,
    )


async def run_worker(plan: WorkerPlan, stop: asyncio.Event) -> None:
    """A worker process: claims from the queue until it is told to stop."""
    pool = await open_pool(plan.uri)
    try:
        worker = await make_worker(plan, pool)
        calm_garbage_collector()
        listener = asyncio.create_task(hear(plan.uri, [TASKS], worker.tasks_waiting))
        running = asyncio.create_task(worker.run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        worker.stop()
        await running
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    finally:
        await pool.close()
