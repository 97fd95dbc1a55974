"""The worker: claim what there is room for, run it, report how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import psycopg
import structlog

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.local import LocalEngine
from dagmaster.contract.messages import Key, Report, Started, Task
from dagmaster.db import worker as store
from dagmaster.db.connect import Pool
from dagmaster.db.inbox import report_body, send, started_body
from dagmaster.db.looks import NewLog, save_logs
from dagmaster.db.notify import INBOX, notify
from dagmaster.errors import Cancelled, DatabaseUnreachable, HandlerCrashed, HandlerOutputInvalid
from dagmaster.executors.base import Executor, Listener, Outcome
from dagmaster.worker.lease import Held, LeaseKeeper
from dagmaster.worker.sweep import Sweeper

POLL_SECONDS = 2.0
TURN_SECONDS = 0.2
LINE_SECONDS = 0.5
"""Light attempts may wait for a thread here while all that wait are done within this time, as far as one can know."""
LINE_MAX = 1_000
WAITED_MAX_SECONDS = 2.0
"""An attempt that has waited here for so long goes back into the queue."""
TOOK_FORGOTTEN = 1.1
"""How fast the shortest time that a handler ever took is forgotten, per attempt."""
PROGRESS_SECONDS = 0.5
REPORT_RETRY_SECONDS = 0.5
LEAVE_SECONDS = 10.0
"""How long a worker that was told to stop tries to tell the database how its attempts ended."""
LINES_KEPT_MAX = 10_000
"""Log lines between two writes, at most."""
LINE_LENGTH_MAX = 8_000

log = structlog.get_logger("dagmaster.worker")


Attempt = tuple[str, Key, int]


@dataclass(slots=True)
class Running:
    """An attempt taken on here; times by the local clock."""

    task: Task
    work: asyncio.Task[None]
    since: float
    told: bool
    """The engine knows that it has begun."""
    begun_at: float | None = None


@dataclass(slots=True)
class Letter:
    """A report on its way into the inbox. Without a shard the job's row is asked for it."""

    job_id: str
    shard: int | None
    report: Report
    sent: asyncio.Future[None]


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
        self.took: dict[str, float] = {}
        """Seconds that attempts of a handler take, at the least of late."""
        self.besides: set[asyncio.Task[None]] = set()
        self.letters: list[Letter] = []
        self._posting: asyncio.Task[None] | None = None
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
                await self._drop_besides()
            keeper.stop()
            await asyncio.gather(*(executor.stop() for executor in self.executors.values()))

    def stop(self) -> None:
        self._stopping = True
        self.bell.set()

    # --- the engine in the same process --------------------------------------------------------------

    def reserve(self, handler: str, queue: str) -> bool:
        spec = self.handlers.get(handler)
        if self._stopping or spec is None or queue not in self.queues or self.backlog[spec.isolation]:
            return False
        free = self.free[spec.isolation]
        if free < 1 and (spec.isolation != "inline" or -free >= self._line(handler)):
            return False
        self.free[spec.isolation] -= 1
        return True

    def unreserve(self, handler: str) -> None:
        self.free[self.handlers[handler].isolation] += 1

    def start(self, task: Task) -> None:
        self._begin(task, told=False)

    def _begin(self, task: Task, *, told: bool) -> None:
        work = asyncio.create_task(self._run_one(task))
        self.untold[work] = (task.job_id, task.key, task.attempt)
        work.add_done_callback(self.untold.pop)
        self.running[task.job_id, task.key] = Running(task, work, monotonic(), told=told)

    def _line(self, handler: str) -> int:
        """How many attempts of a light handler may wait for a thread here: what is done within a moment."""
        return min(LINE_MAX, int(LINE_SECONDS / max(self.took.get(handler, LINE_SECONDS), 1e-6)))

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
            wanted = self._room(isolation, names)
            if wanted < 1 or not names or not self.backlog[isolation]:
                continue
            try:
                await self._claim_kind(isolation, names, wanted)
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("nothing claimed", problem=str(problem))
                self.backlog[isolation] = True
                return

    def _room(self, isolation: str, names: list[str]) -> int:
        """How many to claim: all free slots, or half of the line, so that there is room for what comes meanwhile."""
        free = self.free[isolation]
        if isolation != "inline":
            return free
        line = min((self._line(name) for name in names if name in self.took), default=0)
        return max(free, (free + line) // 2)

    async def _claim_kind(self, isolation: str, names: list[str], wanted: int) -> None:
        """Take that much room, then give back what found no task; a hint meanwhile is not lost."""
        self.free[isolation] -= wanted
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
                self._begin(task, told=True)

    async def _wait(self) -> None:
        """Until somebody rings; now and then see whether a hint was lost."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self.bell.wait()
        except TimeoutError:
            await self._poll()
        self.bell.clear()

    async def _poll(self) -> None:
        try:
            async with self.pool.connection() as conn:
                if await store.waiting(conn, self.queues):
                    self.backlog = dict.fromkeys(self.backlog, True)
        except (psycopg.Error, DatabaseUnreachable) as problem:
            log.warning("queue not seen", problem=str(problem))

    async def _turn(self, keeper: LeaseKeeper) -> None:
        """Show the lease keeper that the loop turns."""
        while True:
            keeper.turned_at = monotonic()
            self._tell_begun()
            await asyncio.sleep(TURN_SECONDS)

    def _tell_begun(self) -> None:
        """Start the clocks of attempts that waited here and have begun; give back those that wait too long."""
        assert self._loop is not None
        for found in [each for each in self.running.values() if not each.told]:
            task = found.task
            if found.begun_at is not None:
                found.told = True
                if self.engine is not None:
                    at = self._begun(found.begun_at)
                    started = Started(task.key, task.attempt, self.worker_id, at, task.timeout_seconds)
                    if not self.engine.deliver(task.job_id, task.shard, started):
                        self._beside(self._say_started(task, started))
            elif monotonic() - found.since > WAITED_MAX_SECONDS:
                found.work.cancel()
                released = Report(task.key, task.attempt, self.worker_id, "RELEASED")
                self.untold[self._beside(self._send(task, released))] = (task.job_id, task.key, task.attempt)

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it meanwhile; a reference is kept until it is done."""
        task = asyncio.create_task(work)
        self.besides.add(task)
        task.add_done_callback(self.besides.discard)
        task.add_done_callback(lambda done: self.untold.pop(done, None))
        return task

    async def _say_started(self, task: Task, started: Started) -> None:
        """To whoever decides for the job now, until it is durable or the attempt has ended: its timeout hangs on it."""
        while self._runs(task):
            try:
                async with self.pool.connection() as conn:
                    await send(conn, task.job_id, "started", started_body(started))
                    await notify(conn, [INBOX])
                return
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("start waits for the database", problem=str(problem))
                await asyncio.sleep(REPORT_RETRY_SECONDS)

    def _runs(self, task: Task) -> bool:
        found = self.running.get((task.job_id, task.key))
        return found is not None and found.task.attempt == task.attempt

    def _begun(self, begun_at: float) -> datetime:
        """When that was, by the database's clock."""
        assert self.engine is not None
        return self.engine.now() - timedelta(seconds=monotonic() - begun_at)

    # --- one attempt -------------------------------------------------------------------------------

    async def _run_one(self, task: Task) -> None:
        spec = self.handlers[task.handler]
        here = self.running[task.job_id, task.key]
        listener = Listener(self._on_begun, self._on_progress, self._on_checkpoint, self._on_log)
        try:
            outcome = await self.executors[spec.isolation].run(task, listener)
        except asyncio.CancelledError:
            outcome = None
        except Exception:
            log.exception("executor failed", handler=task.handler)
            outcome = Outcome(False, error=HandlerCrashed(cause="a fault of the executor").as_dict())
        finally:
            if self._runs(task):  # a newer attempt may have begun here meanwhile
                del self.running[task.job_id, task.key]
                self.progressed.pop((task.job_id, task.key), None)
            self.free[spec.isolation] += 1
        if outcome is not None:
            if (seconds := outcome.seconds) is not None:
                self.took[task.handler] = min(seconds, self.took.get(task.handler, seconds) * TOOK_FORGOTTEN)
            if not outcome.completed:
                await asyncio.to_thread(self.sweeper.storage.discard, task.token)
            await self._report(task, outcome, here)
        self.sweeper.bell.set()
        if self.backlog[spec.isolation]:
            self.bell.set()

    async def _report(self, task: Task, outcome: Outcome, here: Running) -> None:
        """Say how the attempt ended: to the engine in this process, or into the inbox, until it is durable."""
        unsaid = here.begun_at is not None and not here.told and self.engine is not None
        report = Report(
            key=task.key,
            attempt=task.attempt,
            worker=self.worker_id,
            outcome="COMPLETED" if outcome.completed else "FAILED",
            output=outcome.output,
            error=outcome.error,
            effects=outcome.effects,
            started_at=self._begun(here.begun_at) if unsaid and here.begun_at is not None else None,
        )
        await self._send(task, report)

    async def _send(self, task: Task, report: Report) -> None:
        if self.engine is None or not self.engine.deliver(task.job_id, task.shard, report):
            await self._into_inbox(task.job_id, task.shard, report)

    async def _into_inbox(self, job_id: str, shard: int | None, report: Report) -> None:
        """Return once the report is durable. Reports that are there at the same time go together."""
        letter = Letter(job_id, shard, report, asyncio.get_running_loop().create_future())
        self.letters.append(letter)
        if self._posting is None or self._posting.done():
            self._posting = asyncio.create_task(self._post())
        await letter.sent

    async def _post(self) -> None:
        while self.letters:
            letters, self.letters = self.letters, []
            try:
                await self._deliver(letters)
            except psycopg.DataError:
                for letter in letters:
                    await self._deliver_alone(letter)

    async def _deliver_alone(self, letter: Letter) -> None:
        """A report that the database refuses becomes a failure that says so."""
        try:
            await self._deliver([letter])
        except psycopg.DataError as problem:
            log.error("report refused by the database", problem=str(problem))
            error = HandlerOutputInvalid(problem=str(problem)).as_dict()
            letter.report = letter.report._replace(outcome="FAILED", output=None, error=error, effects=())
            await self._deliver([letter])

    async def _deliver(self, letters: list[Letter]) -> None:
        """Write them until it is durable."""
        rows = [store.ReportRow(letter.job_id, letter.shard, report_body(letter.report)) for letter in letters]
        while True:
            try:
                async with self.pool.connection() as conn:
                    await store.report(conn, rows)
                    await notify(conn, [INBOX])
                break
            except psycopg.DataError:
                raise
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("reports wait for the database", count=len(rows), problem=str(problem))
                await asyncio.sleep(REPORT_RETRY_SECONDS)
        for letter in letters:
            if not letter.sent.done():
                letter.sent.set_result(None)

    # --- what attempts say -------------------------------------------------------------------------

    def _on_begun(self, task: Task) -> None:
        """Called from whichever thread runs the attempt."""
        found = self.running.get((task.job_id, task.key))
        if found is not None and found.task.attempt == task.attempt:
            found.begun_at = monotonic()

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
        for found in list(self.running.values()):
            task = found.task
            if found.since < asked_at and (task.job_id, task.key, task.attempt) not in held:
                log.info("attempt taken away", job_id=task.job_id, node=task.node_id, attempt=task.attempt)
                found.work.cancel()
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

    async def _drop_besides(self) -> None:
        """What still waits for the database is given up."""
        waiting = [*self.untold, *self.besides, *([self._posting] if self._posting is not None else [])]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

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
