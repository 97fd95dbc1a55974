"""The orchestrator: wait, keep the leases, tick. One loop, one connection, no leader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic

import psycopg
import structlog

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.local import LocalWorker
from dagmaster.contract.messages import Message, Published, Report, Started
from dagmaster.contract.store import OrchestratorStore
from dagmaster.db import inbox
from dagmaster.db.connect import Connection, Pool, connect
from dagmaster.db.notify import EFFECTS, INBOX, TASKS
from dagmaster.db.orchestrator import PostgresOrchestratorStore
from dagmaster.db.shards import hold_liveness
from dagmaster.engine.ownership import RENEW_SECONDS, Ownership, process_name
from dagmaster.engine.tick import Tick
from dagmaster.engine.wake import Bell, Notifier, hear
from dagmaster.errors import DatabaseUnreachable, HandlerOutputInvalid, OwnershipLost, StaleState

POLL_ACTIVE_SECONDS = 1.0
POLL_IDLE_SECONDS = 2.0
RECONNECT_SECONDS = 0.5

log = structlog.get_logger("dagmaster.engine")


class Orchestrator:
    """Decides for the jobs of the shards it holds, until it is told to stop."""

    def __init__(
        self,
        uri: str,
        pool: Pool,
        handlers: Mapping[str, HandlerSpec],
        worker: LocalWorker | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.uri = uri
        self.clock = clock
        self.ownership = Ownership(process_name())
        self.ticks = Tick(self.ownership.owner, handlers, worker, clock)
        self.bell = Bell()
        self.notifier = Notifier(pool)
        self.on_published: Callable[[], None] = lambda: self.notifier.tell(EFFECTS)
        """Called when there are publications to apply; the default wakes publishers through the database."""
        self.ready = asyncio.Event()
        """Set once shards are held for the first time."""
        self._stopping = False
        self._keep_at = 0.0
        self._looked_at = 0.0

    # --- life --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Turn until stopped; a lost connection is opened again and everything held is read anew."""
        listener = asyncio.create_task(hear(self.uri, [INBOX], self.ring, self._hold_liveness))
        try:
            while not self._stopping:
                try:
                    async with await connect(self.uri, engine=True) as conn:
                        await self._turn_until_stopped(PostgresOrchestratorStore(conn))
                except (psycopg.Error, DatabaseUnreachable) as problem:
                    log.warning("database lost", problem=str(problem))
                    self._drop_everything()
                    await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await self.notifier.flush()

    def stop(self) -> None:
        """Hand the shards over and end after the present turn."""
        self._stopping = True
        self.bell.ring()

    def ring(self) -> None:
        """There is something in the inbox."""
        self.ticks.look = True
        self.bell.ring()

    def deliver(self, job_id: str, shard: int, message: Message) -> bool:
        """A message from inside this process; False when the shard is not held here."""
        if shard not in self.ownership.epochs:
            return False
        self.ticks.delivered.append((job_id, shard, message))
        self.bell.ring()
        return True

    def now(self) -> datetime:
        """The database's time."""
        return self.ticks.now()

    # --- the loop ----------------------------------------------------------------------------------

    async def _turn_until_stopped(self, store: OrchestratorStore) -> None:
        self._keep_at = 0.0
        try:
            while not self._stopping:
                await self._keep(store)
                self._poll()
                if self.ownership.epochs and await self._tick(store):
                    continue
                await self.bell.wait(self._patience())
        finally:
            if self._stopping:
                with contextlib.suppress(psycopg.Error):  # a broken connection refuses at once
                    await self.ownership.hand_over(store)
                    await self._send_back(store)
                    self.notifier.tell(INBOX)

    def _poll(self) -> None:
        """Look into the inbox now and then, whether anybody rang or not: hints may be lost."""
        poll = POLL_ACTIVE_SECONDS if self.ticks.jobs else POLL_IDLE_SECONDS
        if self.ticks.look or self.clock() - self._looked_at >= poll:
            self.ticks.look = True
            self._looked_at = self.clock()

    async def _keep(self, store: OrchestratorStore) -> None:
        """Renew the leases when it is time; read in what was gained, forget what was lost."""
        if self.clock() < self._keep_at:
            return
        first = not self.ownership.epochs
        gained, lost = await self.ownership.keep(store)
        self._keep_at = self.clock() + RENEW_SECONDS
        if lost:
            log.warning("shards lost", count=len(lost))
            self.ticks.forget(lost)
        await self._send_back(store)
        if gained:
            self.ticks.forget(gained)
            jobs = await store.live_jobs(sorted(gained))
            await self.ticks.take(store, await store.load(jobs) if jobs else [])
            await store.make_event_partitions()
            log.info("shards gained", count=len(gained), first=first)
        if self.ownership.epochs:
            self.ready.set()

    async def _tick(self, store: OrchestratorStore) -> bool:
        try:
            more = await self.ticks.run(store, self.ownership.epochs)
        except (OwnershipLost, StaleState) as problem:
            log.warning("tick refused", problem=problem.message, why=problem.why)
            self._drop_everything()
            self._keep_at = 0.0
            return True
        except psycopg.Error:
            raise
        except Exception:
            log.exception("tick failed; everything held is read anew")
            self._drop_everything()
            self._keep_at = self.clock() + RECONNECT_SECONDS
            return False
        if self.ticks.published:
            self.on_published()
        if self.ticks.queued:
            self.notifier.tell(TASKS)
        return more

    def _drop_everything(self) -> None:
        """Forget all jobs and epochs; the next turn takes up what is still or again ours."""
        self.ticks.forget(set(self.ownership.epochs))
        self.ownership.epochs = {}

    def _patience(self) -> float:
        """How long to wait for a ring: until the next deadline, the next renewal, or the next poll."""
        poll = POLL_ACTIVE_SECONDS if self.ticks.jobs else POLL_IDLE_SECONDS
        waits = [self._looked_at + poll - self.clock(), self._keep_at - self.clock()]
        due = self.ticks.timers.next_at()
        if due is not None:
            waits.append((due - self.ticks.now()).total_seconds() + 0.002)
        return max(0.001, min(waits))

    # --- helpers -----------------------------------------------------------------------------------

    async def _send_back(self, store: OrchestratorStore) -> None:
        """What was delivered for shards that are not held here goes through the inbox, to whoever holds them."""
        while strays := [given for given in self.ticks.delivered if given[1] not in self.ownership.epochs]:
            job_id, shard, message = strays[0]
            try:
                await self._into_inbox(store, job_id, message)
            except psycopg.DataError as problem:
                log.error("report refused by the database", job_id=job_id, problem=str(problem))
                assert isinstance(message, Report), "only reports hold what others made"
                error = HandlerOutputInvalid(problem=str(problem)).as_dict()
                failed = message._replace(outcome="FAILED", output=None, error=error, effects=())
                await self._into_inbox(store, job_id, failed)
            self.ticks.delivered.remove((job_id, shard, message))

    async def _into_inbox(self, store: OrchestratorStore, job_id: str, message: Message) -> None:
        if isinstance(message, Report):
            await store.send(job_id, "report", inbox.report_body(message))
        elif isinstance(message, Started):
            await store.send(job_id, "started", inbox.started_body(message))
        elif isinstance(message, Published):
            await store.send(job_id, "published", inbox.published_body(message))

    async def _hold_liveness(self, conn: Connection) -> None:
        await hold_liveness(conn, self.ownership.liveness_key)
