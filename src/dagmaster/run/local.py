"""The local profile: everything in one process around an embedded Postgres, in one data folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from dagmaster.api.app import create_app
from dagmaster.api.authority import Authority
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.contract.handlers import HandlerSpec
from dagmaster.db import worker as worker_store
from dagmaster.db.connect import open_pool
from dagmaster.db.embedded import EmbeddedPostgres
from dagmaster.db.lockfile import DataFolderLock
from dagmaster.db.migrate import migrate
from dagmaster.engine.housekeeping import Housekeeper
from dagmaster.engine.orchestrator import Orchestrator
from dagmaster.engine.ownership import process_name
from dagmaster.engine.publish import Publisher
from dagmaster.errors import DataFolderUnusable, PortInUse
from dagmaster.handlers.manifest import KnownHandlers, bundled_specs
from dagmaster.handlers.outside import Outside
from dagmaster.run.garbage import calm_garbage_collector
from dagmaster.run.worker import WorkerPlan, make_worker
from dagmaster.serving.app import with_serving
from dagmaster.serving.tiler import Tiler
from dagmaster.storages import open_storage

LOOPBACK = "127.0.0.1"
LOCAL_WORKER = "local-"
"""Workers of the local profile are named so; when the profile starts, those of an earlier start are dead."""
DRAIN_SECONDS = 3
REMEMBERED = "handlers.json"
GUARD_SECONDS = 0.5
MIB = 1024 * 1024
FIRST_START_MIB = 128
"""A new database has about 40 MiB, and writes as much again before it answers."""

log = structlog.get_logger("dagmaster.local")


@dataclass(frozen=True, slots=True)
class Running:
    """A local profile that is up."""

    url: str
    data: Path
    storage: Path
    database: str
    failed: asyncio.Future[None]
    """Ends with the error of a part that stopped by itself."""


@asynccontextmanager
async def local_profile(
    data: Path,
    *,
    port: int | None,
    processes: int,
    memory_mib: int,
    outside: Outside | None = None,
    workflow_folders: tuple[Path, ...] = (),
    keep: timedelta | None = None,
) -> AsyncIterator[Running]:
    """Start everything, yield its address, stop everything. `keep` is how long finished jobs are kept; None = for ever.

    Errors: DataFolderInUse, DataFolderUnusable, PortInUse, DatabaseStartFailed.
    """
    async with AsyncExitStack() as stack:
        lock = stack.enter_context(DataFolderLock(data))
        check_space(data)
        sock = stack.enter_context(listening_socket(port))
        url = f"http://{LOOPBACK}:{sock.getsockname()[1]}"
        postgres = stack.enter_context(EmbeddedPostgres(data))
        migrate(postgres.uri)
        pool = await open_pool(postgres.uri)
        stack.push_async_callback(pool.close)
        async with pool.connection() as conn:
            await worker_store.expire_leases(conn, LOCAL_WORKER)

        storage = f"file:{data / 'storage'}"
        outside = outside or Outside()
        plan = WorkerPlan(
            postgres.uri,
            storage,
            data / "scratch",
            processes,
            memory_mib,
            name=LOCAL_WORKER + process_name(),
            outside=outside,
        )
        given = {**outside.specs, **bundled_specs()}
        known = KnownHandlers(given, postgres.uri, passed_over=LOCAL_WORKER)
        stack.callback(known.close)
        engine_known = KnownHandlers(
            {**remembered(data, outside.specs), **given}, postgres.uri, passed_over=LOCAL_WORKER
        )
        stack.callback(engine_known.close)
        worker = await make_worker(plan, pool)
        orchestrator = Orchestrator(postgres.uri, pool, engine_known, worker)
        worker.engine = orchestrator
        catalog = EmbeddedCatalog(pool)
        publisher = Publisher(pool, open_storage(storage), catalog)
        publisher.on_applied = orchestrator.ring
        orchestrator.on_published = publisher.bell.ring
        authority = Authority(pool, known, workflow_folders, ring_inbox=orchestrator.ring)
        tiler = Tiler(data / "run" / "tiler")
        stack.push_async_callback(tiler.stop)
        app = with_serving(create_app(authority), catalog, open_storage(storage), tiler)
        server = Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=DRAIN_SECONDS))

        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        guard = asyncio.create_task(_keep_alive(postgres))
        guard.add_done_callback(lambda done: _tell(done, failed))
        stack.callback(guard.cancel)
        housekeeper = asyncio.create_task(Housekeeper(pool, keep).run())
        housekeeper.add_done_callback(lambda done: _tell(done, failed))
        stack.push_async_callback(_stop_part, housekeeper, housekeeper.cancel)
        for part, stop in (
            (publisher.run(), publisher.stop),
            (orchestrator.run(), orchestrator.stop),
            (worker.run(), worker.stop),
            (server.serve(sockets=[sock]), server.stop),
        ):
            task = asyncio.create_task(part)
            task.add_done_callback(lambda done: _tell(done, failed))
            stack.push_async_callback(_stop_part, task, stop)
        await _up([orchestrator.ready, server.up], failed)
        calm_garbage_collector()
        lock.publish(url)
        yield Running(url, data, data / "storage", postgres.uri, failed)


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process has one owner of signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


def check_space(data: Path) -> None:
    """A first start makes a database, which on a full disk would end half-way. Errors: DataFolderUnusable."""
    free_mib = shutil.disk_usage(data).free // MIB
    if free_mib < FIRST_START_MIB and not any(data.glob("postgres*")):
        raise DataFolderUnusable(
            data=data,
            problem=f"no space left for a new database: {free_mib} MiB are free, {FIRST_START_MIB} MiB are needed",
            remedy="Free space there, or name a folder on another disk with --data.",
        )


@contextmanager
def listening_socket(port: int | None) -> Iterator[socket.socket]:
    """A bound loopback socket; a free port when none is named. Errors: PortInUse."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # asyncio does it only for sockets that name their protocol; without it, the end of an answer comes 40 ms late.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.bind((LOOPBACK, port or 0))
        except OSError as problem:
            raise PortInUse(port=port, why=problem.strerror) from problem
        yield sock


def remembered(data: Path, specs: Mapping[str, HandlerSpec]) -> dict[str, HandlerSpec]:
    """The handlers from outside that this data folder has ever been started with, these among them.

    A job that needs one then waits for it, when dagmaster is started without, instead of failing.
    """
    file = data / REMEMBERED
    before = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    now = before | {name: spec.model_dump(mode="json") for name, spec in specs.items()}
    if now != before:
        part = file.with_suffix(".part")
        part.write_text(json.dumps(now), "utf-8")
        part.replace(file)
    return {name: HandlerSpec(**document) for name, document in now.items()}


async def _keep_alive(postgres: EmbeddedPostgres) -> None:
    """Start the database again when it dies under us; everybody else reconnects by himself."""
    while True:
        await asyncio.sleep(GUARD_SECONDS)
        if postgres.pid is None:
            log.error("the embedded Postgres died; starting it again")
            postgres.start()


async def _up(events: list[asyncio.Event], failed: asyncio.Future[None]) -> None:
    """Wait for every event; the error of a part that failed meanwhile is raised instead."""
    ready = asyncio.gather(*(event.wait() for event in events))
    waited: list[asyncio.Future[Any]] = [ready, failed]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        failed.result()


def _tell(done: asyncio.Task[None], failed: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None and not failed.done():
        failed.set_exception(error)


async def _stop_part(task: asyncio.Task[None], stop: object) -> None:
    stop()  # type: ignore[operator]  # a bound method without arguments
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await task
