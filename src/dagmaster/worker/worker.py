"""The worker: claim what there is room for, run it, report how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

import psycopg
import structlog

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.local import LocalEngine
from dagmaster.contract.messages import Key, Report, Task
from dagmaster.db import worker as store
from dagmaster.db.connect import Pool
from dagmaster.db.inbox import report_body, send
from dagmaster.db.looks import NewLog, save_logs
from dagmaster.db.notify import INBOX, notify
from dagmaster.errors import Cancelled, DatabaseUnreachable, HandlerCrashed, HandlerOutputInvalid
from dagmaster.executors.base import Executor, Listener, Outcome
from dagmaster.worker.lease import Held, LeaseKeeper
from dagmaster.worker.sweep import Sweeper

POLL_SECONDS = 1.0
TURN_SECONDS = 1.0
PROGRESS_SECONDS = 0.5
REPORT_RETRY_SECONDS = 0.5
LEAVE_SECONDS = 10.0
"""How long a worker that was told to stop tries to tell the database how its attempts ended."""
LINES_KEPT_MAX = 10_000
"""Log lines between two writes, at most."""
LINE_LENGTH_MAX = 8_000

log = structlog.get_logger("dagmaster.worker")


Attempt = tuple[str, Key, int]


class Running(NamedTuple):
    """An attempt under way here, since when by the local clock."""

    task: Task
    work: asyncio.Task[None]
    begun_at: float


class Worker:
    """Runs attempts: light ones inline, others in child processes, each kind within its own number of slots."""

    def __init__(
        self,
        worker_id: str,
        uri: str,
        pool: Pool,
        handlers: Mapping[str, HandlerSpec],
        executors: Mapping[str, Executor],
        slots: Mapping[str, int],
        queues: list[str],
        sweeper: Sweeper,
        engine: LocalEngine | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.uri = uri
        self.pool = pool
        self.handlers = handlers
        self.executors = executors
        self.free = dict(slots)
        self.slots = sum(slots.values())
        self.queues = queues
        self.sweeper = sweeper
        self.engine = engine
        self.running: dict[tuple[str, Key], Running] = {}
        self.untold: dict[asyncio.Task[None], Attempt] = {}
        """Attempts whose end has not been said yet."""
        self.strays: Held = set()
        """Attempts that the database says are here and that nobody here knows, at the last renewal."""
        self.returned: Held = set()
        """Strays that were given back."""
        self.progressed: dict[tuple[str, Key], store.ProgressRow] = {}
        self.said: list[NewLog] = []
        self.bell = asyncio.Event()
        self.backlog = dict.fromkeys(slots, True)
        """Tasks of a kind may be waiting in the queues; while so, new ones queue up behind them."""
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- life --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Announce, then claim and run until stopped."""
        self._loop = asyncio.get_running_loop()
        keeper = LeaseKeeper(self.uri, self.worker_id, self._on_renewed)
        await asyncio.gather(*(executor.start() for executor in self.executors.values()))
        keeper.start()
        beside = [
            asyncio.create_task(self._turn(keeper)),
            asyncio.create_task(self._save_said()),
            asyncio.create_task(self.sweeper.run()),
        ]
        try:
            await self._announce()
            while not self._stopping:
                await self._claim()
                await self._wait()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            stopped = await self._stop_running()
            try:
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._say_goodbye(stopped)
            except TimeoutError:
                log.warning("left without a word; the leases of what ran here will end")
            keeper.stop()
            await asyncio.gather(*(executor.stop() for executor in self.executors.values()))

    def stop(self) -> None:
        self._stopping = True
        self.bell.set()

    # --- the engine in the same process --------------------------------------------------------------

    def reserve(self, handler: str, queue: str) -> bool:
        spec = self.handlers.get(handler)
        if self._stopping or spec is None or queue not in self.queues:
            return False
        if self.backlog[spec.isolation] or self.free[spec.isolation] < 1:
            return False
        self.free[spec.isolation] -= 1
        return True

    def unreserve(self, handler: str, queue: str) -> None:
        self.free[self.handlers[handler].isolation] += 1

    def start(self, task: Task) -> None:
        work = asyncio.create_task(self._run_one(task))
        self.untold[work] = (task.job_id, task.key, task.attempt)
        work.add_done_callback(self.untold.pop)
        self.running[task.job_id, task.key] = Running(task, work, monotonic())

    def revoke(self, job_id: str, key: Key) -> None:
        found = self.running.get((job_id, key))
        if found is not None:
            found.work.cancel()

    def tasks_waiting(self) -> None:
        self.backlog = dict.fromkeys(self.backlog, True)
        self.bell.set()

    # --- the loop ----------------------------------------------------------------------------------

    async def _announce(self) -> None:
        async with self.pool.connection() as conn:
            await store.register(conn, self.worker_id, self.slots, self.queues, list(self.handlers.values()))

    async def _claim(self) -> None:
        """Fill the free slots from the queues."""
        for isolation in self.free:
            names = [name for name, spec in self.handlers.items() if spec.isolation == isolation]
            if self.free[isolation] < 1 or not names:
                continue
            try:
                await self._claim_kind(isolation, names)
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("nothing claimed", problem=str(problem))
                return

    async def _claim_kind(self, isolation: str, names: list[str]) -> None:
        """Take all free slots of a kind, then give back those that found no task; a hint meanwhile is not lost."""
        wanted, self.free[isolation] = self.free[isolation], 0
        self.backlog[isolation] = False
        tasks: list[Task] = []
        try:
            async with self.pool.connection() as conn:
                tasks = await store.claim(conn, self.worker_id, self.queues, names, wanted)
                if tasks:
                    await notify(conn, [INBOX])
        finally:
            self.free[isolation] += wanted - len(tasks)
            self.backlog[isolation] |= len(tasks) == wanted
            for task in tasks:
                self.start(task)

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self.bell.wait()
        self.bell.clear()

    async def _turn(self, keeper: LeaseKeeper) -> None:
        """Show the lease keeper that the loop turns."""
        while True:
            keeper.turned_at = monotonic()
            await asyncio.sleep(TURN_SECONDS)

    # --- one attempt -------------------------------------------------------------------------------

    async def _run_one(self, task: Task) -> None:
        spec = self.handlers[task.handler]
        listener = Listener(self._on_progress, self._on_checkpoint, self._on_log)
        try:
            outcome = await self.executors[spec.isolation].run(task, listener)
        except asyncio.CancelledError:
            outcome = None
        except Exception:
            log.exception("executor failed", handler=task.handler)
            outcome = Outcome(False, error=HandlerCrashed(cause="a fault of the executor").as_dict())
        finally:
            found = self.running.get((task.job_id, task.key))
            if (
                found is not None and found.task.attempt == task.attempt
            ):  # a newer attempt may have begun here meanwhile
                del self.running[task.job_id, task.key]
                self.progressed.pop((task.job_id, task.key), None)
            self.free[spec.isolation] += 1
        if outcome is not None:
            if not outcome.completed:
                await asyncio.to_thread(self.sweeper.storage.discard, task.token)
            await self._report(task, outcome)
        self.sweeper.bell.set()
        if self.backlog[spec.isolation]:
            self.bell.set()

    async def _report(self, task: Task, outcome: Outcome) -> None:
        """Say how the attempt ended: to the engine in this process, or into the inbox, until it is durable."""
        report = Report(
            key=task.key,
            attempt=task.attempt,
            worker=self.worker_id,
            outcome="COMPLETED" if outcome.completed else "FAILED",
            output=outcome.output,
            error=outcome.error,
            effects=outcome.effects,
        )
        await self._send(task, report)

    async def _send(self, task: Task, report: Report) -> None:
        if self.engine is None or not self.engine.deliver(task.job_id, task.shard, report):
            await self._into_inbox(task.job_id, task.shard, report)

    async def _into_inbox(self, job_id: str, shard: int | None, report: Report) -> None:
        """Without a shard the job's row is asked for it."""
        body = report_body(report)
        while True:
            try:
                async with self.pool.connection() as conn:
                    if shard is None:
                        await send(conn, job_id, "report", body)
                    else:
                        await store.report(conn, job_id, shard, body)
                    await notify(conn, [INBOX])
                return
            except psycopg.DataError as problem:
                log.error("report refused by the database", problem=str(problem))
                error = HandlerOutputInvalid(problem=str(problem)).as_dict()
                body = report_body(dataclasses.replace(report, outcome="FAILED", output=None, error=error, effects=()))
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("report waits for the database", problem=str(problem))
                await asyncio.sleep(REPORT_RETRY_SECONDS)

    # --- what attempts say -------------------------------------------------------------------------

    def _on_progress(self, task: Task, percent: float, message: str) -> None:
        self.progressed[task.job_id, task.key] = store.ProgressRow(
            task.job_id, task.key, task.attempt, percent, message
        )

    def _on_log(self, task: Task, message: str, fields: dict[str, Any]) -> None:
        """Keep a line for whoever asks; a handler that talks without end loses lines, not memory."""
        if len(self.said) < LINES_KEPT_MAX:
            at = datetime.now(UTC)
            self.said.append(NewLog(task.job_id, task.key, task.attempt, at, message[:LINE_LENGTH_MAX], fields))

    async def _on_checkpoint(self, task: Task, phase: int, data: dict[str, Any]) -> None:
        """Save until it is durable; the attempt waits for the database as its report would."""
        while True:
            try:
                async with self.pool.connection() as conn:
                    if not await store.save_checkpoint(conn, self.worker_id, task, phase, data):
                        raise Cancelled
                return
            except (psycopg.OperationalError, DatabaseUnreachable) as problem:
                log.warning("checkpoint waits for the database", problem=str(problem))
                await asyncio.sleep(REPORT_RETRY_SECONDS)

    async def _save_said(self) -> None:
        """Write progress and log lines now and then; losing some costs nothing."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            await self._flush_said()

    async def _flush_said(self) -> None:
        rows, self.progressed = list(self.progressed.values()), {}
        lines, self.said = self.said, []
        if not rows and not lines:
            return
        try:
            async with self.pool.connection() as conn:
                if rows:
                    await store.save_progress(conn, rows)
                if lines:
                    await save_logs(conn, lines)
        except (psycopg.Error, DatabaseUnreachable) as problem:
            log.warning("progress not saved", problem=str(problem))

    # --- leases ------------------------------------------------------------------------------------

    def _on_renewed(self, held: Held, asked_at: float) -> None:
        """Called from the lease keeper's thread: stop what has been taken away."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop_lost, held, asked_at)

    def _stop_lost(self, held: Held, asked_at: float) -> None:
        for task, work, begun_at in list(self.running.values()):
            if begun_at < asked_at and (task.job_id, task.key, task.attempt) not in held:
                log.info("attempt taken away", job_id=task.job_id, node=task.node_id, attempt=task.attempt)
                work.cancel()
        self._return_strays(held)

    def _return_strays(self, held: Held) -> None:
        """Give back what was claimed without our hearing of it, because the connection was cut in that moment.

        Known to nobody at two renewals: what is being claimed just now, or has just been reported, is none.
        """
        strays = held - set(self.untold.values()) - self.returned
        for job_id, key, attempt in strays & self.strays:
            log.warning("an attempt that never began is given back", job_id=job_id, attempt=attempt)
            released = Report(key, attempt, self.worker_id, "RELEASED")
            work = asyncio.create_task(self._into_inbox(job_id, None, released))
            self.untold[work] = (job_id, key, attempt)
            work.add_done_callback(self.untold.pop)
            self.returned.add((job_id, key, attempt))
        self.strays = strays
        self.returned &= held

    # --- the end -----------------------------------------------------------------------------------

    async def _stop_running(self) -> list[Task]:
        """Stop what still runs; returns what was stopped."""
        stopped = list(self.running.values())
        for running in stopped:
            running.work.cancel()
        await asyncio.gather(*(running.work for running in stopped), return_exceptions=True)
        return [running.task for running in stopped]

    async def _say_goodbye(self, stopped: list[Task]) -> None:
        """Give back unspent what was stopped, so that another worker takes it at once, and say all that is unsaid."""
        for task in stopped:
            await self._send(task, Report(task.key, task.attempt, self.worker_id, "RELEASED"))
        await asyncio.gather(*self.untold, return_exceptions=True)
        await self._flush_said()
        await self._sweep()
        await self._leave()

    async def _sweep(self) -> None:
        """What jobs that have just ended leave behind does not wait for the next start."""
        try:
            await self.sweeper.sweep()
        except (psycopg.Error, DatabaseUnreachable) as problem:
            log.warning("not swept", problem=str(problem))

    async def _leave(self) -> None:
        try:
            async with self.pool.connection() as conn:
                await store.leave(conn, self.worker_id)
        except (psycopg.Error, DatabaseUnreachable) as problem:
            log.warning("left without a word", problem=str(problem))
