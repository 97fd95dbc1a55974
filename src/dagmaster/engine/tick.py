"""One tick: hear, decide, write, tell. It waits for nothing but the store."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic

import structlog

from dagmaster.contract.decisions import Decision, JobSnapshot, NewTask, Timer
from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.local import LocalWorker
from dagmaster.contract.messages import ATTEMPT_LEASE, Due, Failed, Key, Message, Task
from dagmaster.contract.store import Batch, EngineStore, Fence, InboxRow, TaskRow
from dagmaster.dag.decide import decide
from dagmaster.dag.graph import Graph
from dagmaster.dag.restore import restore
from dagmaster.dag.state import JobState
from dagmaster.db import inbox
from dagmaster.engine.definitions import Definitions
from dagmaster.engine.timers import Timers, message_of
from dagmaster.errors import DecisionUnwritable, EngineError, HandlerUnknown

CONSUMED_BATCH = 2_000
"""Messages read in one look, at most."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)
UNREADABLE = Graph("", 0, "", ())
"""Stands in for a definition that this release cannot read, until its job is given up."""

log = structlog.get_logger("dagmaster.engine")

Heard = dict[str, list[Message]]


class Tick:
    """The jobs that one orchestrator holds in memory, and how they move on."""

    def __init__(
        self,
        owner: str,
        handlers: Mapping[str, HandlerSpec],
        worker: LocalWorker | None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.owner = owner
        self.handlers = handlers
        self.worker = worker
        self.clock = clock
        self.jobs: dict[str, JobState] = {}
        self.timers = Timers()
        self.definitions = Definitions()
        self.told: tuple[datetime, float] | None = None
        """The store's time at the last call, and ours then."""
        self.look = True
        """There may be messages in the inbox."""
        self.read_until = LONG_AGO
        """All messages that were in the inbox by then have been read."""
        self.queued = False
        """The last tick put tasks into a queue."""
        self.published = False
        """There are publications to apply: the last tick wrote some, or saw some."""
        self.unreadable: dict[str, str] = {}
        """Jobs in memory that could not be restored, with the reason; each is given up alone."""
        self.fetched: list[InboxRow] = []
        """Messages read from the inbox, not yet decided on."""
        self.delivered: list[tuple[str, int, Message]] = []
        """Messages handed over inside this process, not yet decided on: (job id, shard, message)."""

    def now(self) -> datetime:
        """The store's time: as it was told last, plus what has passed since by a clock that nobody sets."""
        if self.told is None:
            return LONG_AGO
        told, at = self.told
        return told + timedelta(seconds=self.clock() - at)

    async def run(self, store: EngineStore, epochs: dict[int, int]) -> bool:
        """One tick over the shards held; True when there may be more to do at once."""
        self.queued = self.published = False
        fence = Fence(self.owner, epochs)
        unread = self.is_overdue() and not self.fetched
        if self.told is None or unread or (self.look and not self.fetched and not self.delivered):
            self.look |= unread
            await self.write(store, fence, None)
        delivered = [given for given in self.delivered if given[1] in epochs]
        self.delivered = [given for given in self.delivered if given[1] not in epochs]
        rows, self.fetched = self.fetched, []
        try:
            heard, quarantined = self.gather(rows, delivered)
            await self.ring(store, heard)
            if not heard and not rows:
                return False
            await self.hold(store, heard, rows)
            await self.move(store, fence, heard, rows, quarantined)
        except BaseException:
            self.look = True
            self.delivered = delivered + self.delivered
            raise
        return self.look or bool(self.fetched or self.delivered)

    def is_overdue(self) -> bool:
        """A timer has come due since the inbox was read: what came in time is heard before it."""
        due = self.timers.next_at()
        return due is not None and self.read_until < due <= self.now()

    # --- hearing -----------------------------------------------------------------------------------

    def gather(
        self, rows: list[InboxRow], delivered: list[tuple[str, int, Message]]
    ) -> tuple[Heard, dict[int, tuple[InboxRow, str]]]:
        """Messages by job, and by number the rows that cannot be read."""
        heard: Heard = {}
        quarantined = {}
        for row in rows:
            try:
                heard.setdefault(row.job_id, []).append(inbox.parse(row))
            except ValueError as problem:
                quarantined[row.id] = (row, str(problem))
        for job_id, _, message in delivered:
            heard.setdefault(job_id, []).append(message)
        return {job_id: messages for job_id, messages in heard.items() if messages}, quarantined

    async def ring(self, store: EngineStore, heard: Heard) -> None:
        """Add the timers that have come due. A lease is looked up again first: its worker may have renewed it."""
        leases: list[tuple[str, Timer]] = []
        now = min(self.now(), self.read_until)
        for job_id, timer in self.timers.due(now):
            if job_id not in self.jobs:
                continue
            if timer.kind != "lease":
                heard.setdefault(job_id, []).append(message_of(timer))
            elif self.is_live(job_id, timer):
                leases.append((job_id, timer))
        if not leases:
            return
        held = await store.task_leases([(job_id, timer.key) for job_id, timer in leases])
        for job_id, timer in leases:
            attempt, until = held.get((job_id, timer.key), (timer.attempt, now))
            if attempt == timer.attempt and until <= now:
                heard.setdefault(job_id, []).append(Due(timer.key, timer.attempt, "lease"))
            elif attempt == timer.attempt:
                self.timers.set(job_id, timer._replace(at=until))

    def is_live(self, job_id: str, timer: Timer) -> bool:
        node = self.jobs[job_id].node(timer.key)
        return node.attempt == timer.attempt and node.status in ("DISPATCHED", "RUNNING")

    async def hold(self, store: EngineStore, heard: Heard, rows: list[InboxRow]) -> None:
        """Bring the jobs that heard something into memory; one that has not begun comes with its submission."""
        missing = {job_id for job_id in heard if job_id not in self.jobs}
        fresh = {
            row.job_id: JobSnapshot(
                row.job_id, row.shard, row.head.digest, "PENDING", row.head.priority, row.head.inputs, 0
            )
            for row in rows
            if row.head is not None and row.job_id in missing
        }
        stored = sorted(missing - fresh.keys())
        await self.take(store, [*fresh.values(), *(await store.load(stored) if stored else [])])

    async def take(self, store: EngineStore, snapshots: list[JobSnapshot]) -> None:
        """Put jobs into memory, with the clocks of their live attempts."""
        if not snapshots:
            return
        graphs = await self.definitions.graphs(store, [snapshot.digest for snapshot in snapshots])
        for snapshot in snapshots:
            job_id = snapshot.job_id
            try:
                if snapshot.digest not in graphs:
                    raise ValueError("This release cannot read the job's definition.")
                state = restore(snapshot, graphs[snapshot.digest])
            except Exception as problem:
                log.exception("job not restored", job_id=job_id)
                self.unreadable[job_id] = str(problem)
                state = restore(snapshot, UNREADABLE)
            self.jobs[job_id] = state
            self.timers.clear_job(job_id)
            self.set_clocks(snapshot, state)

    def set_clocks(self, snapshot: JobSnapshot, state: JobState) -> None:
        """The timers that were running when the job was last in anybody's memory."""
        for task in snapshot.tasks:
            if task.claimed_at is not None and task.lease_until is not None:
                node = state.node(task.key)
                self.watch(
                    snapshot.job_id,
                    task.key,
                    task.attempt,
                    node.started_at if node.status == "RUNNING" else None,
                    task.lease_until,
                    task.timeout_seconds,
                )
                continue
            spec = state.graph.nodes[task.key.ordinal].task if state.graph.nodes else None
            if spec is not None and spec.queue_timeout_seconds is not None:
                due = task.queued_at + timedelta(seconds=spec.queue_timeout_seconds)
                self.timers.set(snapshot.job_id, Timer(task.key, task.attempt, "queue", due))
        for key, node in state.nodes.items():
            if node.status == "READY" and node.not_before is not None:
                self.timers.set(snapshot.job_id, Timer(key, node.attempt, "retry", node.not_before))

    def watch(
        self,
        job_id: str,
        key: Key,
        attempt: int,
        since: datetime | None,
        lease_until: datetime,
        timeout_seconds: float,
    ) -> None:
        """The clocks of a worker's attempt: its worker silent and, once it has begun, too long."""
        if since is not None:
            self.timers.set(job_id, Timer(key, attempt, "timeout", since + timedelta(seconds=timeout_seconds)))
        self.timers.set(job_id, Timer(key, attempt, "lease", lease_until))

    def forget(self, shards: set[int]) -> None:
        """Drop the jobs of shards that are no longer held, and the messages read for them."""
        for job_id in [job_id for job_id, state in self.jobs.items() if state.shard in shards]:
            self.drop(job_id)
        self.fetched = [row for row in self.fetched if row.shard not in shards]
        self.look = True
        self.read_until = LONG_AGO

    def drop(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)
        self.unreadable.pop(job_id, None)
        self.timers.clear_job(job_id)

    # --- deciding ----------------------------------------------------------------------------------

    async def move(
        self,
        store: EngineStore,
        fence: Fence,
        heard: Heard,
        rows: list[InboxRow],
        quarantined: dict[int, tuple[InboxRow, str]],
    ) -> None:
        """Decide for every job that heard something and write it all at once; alone what cannot be written."""
        heard = {
            job_id: messages
            for job_id, messages in heard.items()
            if job_id in self.jobs and self.jobs[job_id].shard in fence.epochs
        }
        for row in rows:
            if row.job_id not in self.jobs:
                quarantined.setdefault(row.id, (row, "there is no such job"))
        try:
            await self.decide_and_write(store, fence, heard, rows, list(quarantined.values()))
        except DecisionUnwritable as problem:
            log.warning("a tick cannot be written; each of its jobs is written alone", why=problem.why)
            for job_id, messages in heard.items():
                mine = [row for row in rows if row.job_id == job_id]
                bad = [quarantined[row.id] for row in mine if row.id in quarantined]
                await self.move_alone(store, fence, job_id, messages, mine, bad)
            rest = [row for row in rows if row.job_id not in heard]
            await self.decide_and_write(store, fence, {}, rest, [quarantined[row.id] for row in rest])

    async def move_alone(
        self,
        store: EngineStore,
        fence: Fence,
        job_id: str,
        messages: list[Message],
        rows: list[InboxRow],
        quarantined: list[tuple[InboxRow, str]],
    ) -> None:
        """A job whose decision cannot be written is given up; if not even that can be written, it is left alone."""
        try:
            await self.decide_and_write(store, fence, {job_id: messages}, rows, quarantined)
            return
        except DecisionUnwritable as problem:
            error = EngineError(why=problem.why).as_dict()
        log.error("job given up: its decision cannot be written", job_id=job_id, why=error.get("why"))
        try:
            self.drop(job_id)
            await self.take(store, await store.load([job_id]))
            await self.decide_and_write(store, fence, {job_id: [Failed(error)]}, rows, quarantined)
        except DecisionUnwritable as problem:
            log.error("job left as it is", job_id=job_id, why=problem.why)
            reason = f"nothing could be written of what follows from it: {problem.why}"
            await self.decide_and_write(store, fence, {}, rows, [(row, reason) for row in rows])

    async def decide_and_write(
        self,
        store: EngineStore,
        fence: Fence,
        heard: Heard,
        rows: list[InboxRow],
        quarantined: list[tuple[InboxRow, str]],
    ) -> None:
        """Decide for these jobs and write what follows in one transaction."""
        batch = Batch(self.now(), ATTEMPT_LEASE, consumed=rows, quarantined=quarantined)
        try:
            for job_id, messages in heard.items():
                decision = self.decide_alone(self.jobs[job_id], messages, batch.now)
                batch.decisions.append(decision)
                batch.seqs.append(self.jobs[job_id].seq)
                for new in list(decision.tasks):
                    batch.tasks.append(self.place(decision, new, batch.now))
            if batch.decisions or batch.consumed:
                self.look |= bool(rows)
                await self.write(store, fence, batch)
        except DecisionUnwritable:
            self.unreserve(batch.tasks)
            raise
        except BaseException:
            self.unreserve(batch.tasks)
            for job_id in heard:  # the outcome is unknown or refused: the next tick reads these jobs again
                self.drop(job_id)
            raise
        self.commit(batch)

    async def write(self, store: EngineStore, fence: Fence, batch: Batch | None) -> None:
        """One call of the store: write, and look into the inbox when there may be something."""
        look = sorted(fence.epochs) if self.look and not self.fetched else []
        turn = await store.turn(fence, batch, look, CONSUMED_BATCH)
        self.told = (turn.now, self.clock())
        if look:
            self.fetched = turn.messages
            self.published |= turn.publications
            self.look = len(turn.messages) >= CONSUMED_BATCH
            if not self.look:
                self.read_until = turn.now

    def decide_alone(self, state: JobState, messages: list[Message], now: datetime) -> Decision:
        """A job whose decision raises is given up with its traceback; the others of the tick go on."""
        if (why := self.unreadable.get(state.job_id)) is not None:
            return decide(state, [Failed(EngineError(why).as_dict())], now)
        try:
            return self.known_handlers(state, decide(state, messages, now), now)
        except Exception:
            log.exception("job quarantined", job_id=state.job_id)
            error = EngineError(why=traceback.format_exc(limit=-8)).as_dict()
            return decide(state, [Failed(error)], now)

    def known_handlers(self, state: JobState, decision: Decision, now: datetime) -> Decision:
        """A task that no worker has ever offered fails its job at once instead of waiting for ever."""
        unknown = next((task.handler for task in decision.tasks if task.handler not in self.handlers), None)
        if unknown is None:
            return decision
        return decide(state, [Failed(HandlerUnknown(handler=unknown).as_dict())], now)

    def place(self, decision: Decision, new: NewTask, now: datetime) -> TaskRow:
        """Give a new attempt to the worker in this process when it takes it, else put it into its queue."""
        spec = self.handlers[new.handler]
        task = Task(
            job_id=decision.job_id,
            key=new.key,
            attempt=new.attempt,
            shard=decision.shard,
            node_id=new.node_id,
            handler=new.handler,
            queue=new.queue or spec.queue,
            priority=self.jobs[decision.job_id].priority,
            params=new.params,
            timeout_seconds=new.timeout_seconds or spec.timeout_seconds,
            queued_at=now,
        )
        if new.attempt == 1 and self.worker is not None and self.worker.reserve(task.handler, task.queue):
            return TaskRow(task, self.worker.worker_id)
        return TaskRow(task, None)

    # --- afterwards --------------------------------------------------------------------------------

    def unreserve(self, tasks: list[TaskRow]) -> None:
        """Nothing is started of what was not written."""
        for row in tasks:
            if row.claimed_by is not None and self.worker is not None:
                self.worker.unreserve(row.task.handler)

    def commit(self, batch: Batch) -> None:
        """It is written: take it over into memory, and start what was given to the worker here."""
        self.queued |= any(row.claimed_by is None for row in batch.tasks)
        self.published |= any(decision.effects for decision in batch.decisions)
        here = {(row.task.job_id, row.task.key) for row in batch.tasks if row.claimed_by is not None}
        for decision in batch.decisions:
            job_id = decision.job_id
            if self.worker is not None:
                for key in decision.dropped:
                    self.worker.revoke(job_id, key)
            if decision.finished:
                self.drop(job_id)
                continue
            self.jobs[job_id] = self.jobs[job_id].after(decision)
            for key in decision.dropped:
                self.timers.clear(job_id, key)
            for timer in decision.timers:
                if timer.kind != "queue" or (job_id, timer.key) not in here:
                    self.timers.set(job_id, timer)
        for row in batch.tasks:
            if row.claimed_by is not None and self.worker is not None:
                self.worker.start(row.task)  # its lease is the business of whoever survives this process
        if self.queued and self.worker is not None:
            self.worker.tasks_waiting()
