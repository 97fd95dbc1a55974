"""One tick: hear, decide, write, tell. It waits for nothing but Postgres."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from dagmaster.contract.decisions import Decision, NewTask, NodeChange, Timer
from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.local import LocalWorker
from dagmaster.contract.messages import Due, Failed, Key, Message, Task
from dagmaster.dag.decide import decide, node_event
from dagmaster.dag.graph import Graph
from dagmaster.dag.restore import restore
from dagmaster.dag.state import JobState
from dagmaster.db import engine as store
from dagmaster.db import inbox
from dagmaster.db.connect import Connection
from dagmaster.engine.definitions import Definitions
from dagmaster.engine.timers import Timers, message_of
from dagmaster.errors import EngineError, HandlerUnknown

ATTEMPT_LEASE = timedelta(seconds=30)
"""A worker that has not renewed its attempts for this long has lost them."""

log = structlog.get_logger("dagmaster.engine")


class Tick:
    """The jobs that one orchestrator holds in memory, and how they move on."""

    def __init__(self, owner: str, handlers: Mapping[str, HandlerSpec], worker: LocalWorker | None) -> None:
        self.owner = owner
        self.handlers = handlers
        self.worker = worker
        self.jobs: dict[str, JobState] = {}
        self.timers = Timers()
        self.definitions = Definitions()
        self.now = datetime.now(UTC)
        """The database's time at the last tick."""
        self.queued = False
        """The last tick put tasks into a queue."""
        self.published = False
        """The last tick wrote publications."""
        self.unreadable: set[str] = set()
        """Jobs in memory whose definition this release cannot read; each is given up alone."""
        self.delivered: list[tuple[str, int, Message]] = []
        """Messages handed over inside this process, not yet decided on: (job id, shard, message)."""

    async def run(self, conn: Connection, epochs: dict[int, int]) -> bool:
        """One tick over the shards held; True when there may be more to do at once."""
        self.queued = self.published = False
        now, rows = await store.fetch(conn, sorted(epochs))
        self.now = now
        delivered, self.delivered = self.delivered, []
        try:
            heard, quarantined = self.gather(rows, delivered)
            await self.ring(conn, now, heard)
            if not heard and not quarantined:
                return False
            await self.hold(conn, [job_id for job_id in heard if job_id not in self.jobs])
            await self.move(conn, epochs, now, heard, rows, quarantined)
        except BaseException:
            self.delivered = delivered + self.delivered
            raise
        return len(rows) >= store.CONSUMED_BATCH or bool(self.delivered)

    # --- hearing -----------------------------------------------------------------------------------

    def gather(
        self, rows: list[store.InboxRow], delivered: list[tuple[str, int, Message]]
    ) -> tuple[dict[str, list[Message]], list[tuple[store.InboxRow, str]]]:
        """Messages by job, and the rows that cannot be read."""
        heard: dict[str, list[Message]] = {}
        quarantined = []
        for row in rows:
            try:
                heard.setdefault(row.job_id, []).append(inbox.parse(row))
            except ValueError as problem:
                quarantined.append((row, str(problem)))
        for job_id, _, message in delivered:
            heard.setdefault(job_id, []).append(message)
        return heard, quarantined

    async def ring(self, conn: Connection, now: datetime, heard: dict[str, list[Message]]) -> None:
        """Add the timers that have come due. A lease is looked up again first: its worker may have renewed it."""
        leases: list[tuple[str, Timer]] = []
        for job_id, timer in self.timers.due(now):
            if job_id not in self.jobs:
                continue
            if timer.kind == "lease":
                leases.append((job_id, timer))
            else:
                heard.setdefault(job_id, []).append(message_of(timer))
        leases = [(job_id, timer) for job_id, timer in leases if self.is_running(job_id, timer)]
        if not leases:
            return
        held = await store.task_leases(conn, [(job_id, timer.key) for job_id, timer in leases])
        for job_id, timer in leases:
            attempt, until = held.get((job_id, timer.key), (timer.attempt, now))
            if attempt == timer.attempt and until <= now:
                heard.setdefault(job_id, []).append(Due(timer.key, timer.attempt, "lease"))
            elif attempt == timer.attempt:
                self.timers.set(job_id, replace(timer, at=until))

    def is_running(self, job_id: str, timer: Timer) -> bool:
        node = self.jobs[job_id].node(timer.key)
        return node.attempt == timer.attempt and node.status == "RUNNING"

    async def hold(self, conn: Connection, job_ids: list[str]) -> None:
        """Bring jobs into memory, with the clocks of their live attempts."""
        if not job_ids:
            return
        snapshots = await store.load(conn, job_ids)
        graphs = await self.definitions.graphs(conn, [snapshot.digest for snapshot in snapshots])
        for snapshot in snapshots:
            graph = graphs.get(snapshot.digest)
            if graph is None:
                self.unreadable.add(snapshot.job_id)
                graph = Graph("", 0, snapshot.digest, ())
            state = restore(snapshot, graph)
            self.jobs[snapshot.job_id] = state
            for task in snapshot.tasks:
                self.watch(
                    snapshot.job_id, task.key, task.attempt, task.claimed_at, task.lease_until, task.timeout_seconds
                )
                spec = graph.nodes[task.key.ordinal].task if graph.nodes else None
                if task.claimed_at is None and spec is not None and spec.queue_timeout_seconds is not None:
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
        lease_until: datetime | None,
        timeout_seconds: float,
    ) -> None:
        """The clocks of a running attempt: too long, and heartbeat missing."""
        if since is not None and lease_until is not None:
            self.timers.set(job_id, Timer(key, attempt, "timeout", since + timedelta(seconds=timeout_seconds)))
            self.timers.set(job_id, Timer(key, attempt, "lease", lease_until))

    def timeout_of(self, decision: Decision, key: Key) -> float:
        """The node's timeout, else the handler's own, for an attempt that was claimed from the queue."""
        task = self.jobs[decision.job_id].graph.nodes[key.ordinal].task
        assert task is not None, f"node {key} runs no task"
        return task.timeout_seconds or self.handlers[task.handler].timeout_seconds

    def forget(self, shards: set[int]) -> None:
        """Drop the jobs of shards that are no longer held, and what was delivered for them."""
        self.jobs = {job_id: state for job_id, state in self.jobs.items() if state.shard not in shards}

    # --- deciding ----------------------------------------------------------------------------------

    async def move(
        self,
        conn: Connection,
        epochs: dict[int, int],
        now: datetime,
        heard: dict[str, list[Message]],
        rows: list[store.InboxRow],
        quarantined: list[tuple[store.InboxRow, str]],
    ) -> None:
        """Decide for every job that heard something and write it all in one transaction."""
        orphans = [(row, "there is no such job") for row in rows if row.job_id not in self.jobs]
        seen = {row.id for row, _ in quarantined}
        quarantined = quarantined + [(row, why) for row, why in orphans if row.id not in seen]
        decisions = [
            self.decide_alone(self.jobs[job_id], messages, now)
            for job_id, messages in heard.items()
            if job_id in self.jobs and self.jobs[job_id].shard in epochs
        ]
        tasks = [self.place(decision, new, now) for decision in decisions for new in list(decision.tasks)]
        seqs = [self.jobs[decision.job_id].seq for decision in decisions]
        try:
            fence = store.Fence(self.owner, epochs)
            await store.write(conn, fence, now, decisions, seqs, tasks, rows, quarantined, ATTEMPT_LEASE)
        except BaseException:
            self.undo(decisions, tasks)
            raise
        self.commit(decisions, tasks, now)

    def decide_alone(self, state: JobState, messages: list[Message], now: datetime) -> Decision:
        """A job whose decision raises is given up with its traceback; the others of the tick go on."""
        if state.job_id in self.unreadable:
            self.unreadable.discard(state.job_id)
            error = EngineError("This release cannot read the job's definition.").as_dict()
            return decide(state, [Failed(error)], now)
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

    def place(self, decision: Decision, new: NewTask, now: datetime) -> store.TaskRow:
        """Give a new attempt to the worker in this process when it has a free slot, else put it into its queue."""
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
        if new.attempt > 1 or self.worker is None or not self.worker.reserve(task.handler, task.queue):
            return store.TaskRow(task, None)
        mark_running(decision, new.key, now)
        return store.TaskRow(task, self.worker.worker_id)

    # --- afterwards --------------------------------------------------------------------------------

    def undo(self, decisions: list[Decision], tasks: list[store.TaskRow]) -> None:
        """The outcome is unknown or refused: forget these jobs, so that the next tick reads them again."""
        for decision in decisions:
            self.jobs.pop(decision.job_id, None)
        for row in tasks:
            if row.claimed_by is not None and self.worker is not None:
                self.worker.unreserve(row.task.handler, row.task.queue)

    def commit(self, decisions: list[Decision], tasks: list[store.TaskRow], now: datetime) -> None:
        self.queued = any(row.claimed_by is None for row in tasks)
        self.published = any(decision.effects for decision in decisions)
        for decision in decisions:
            if decision.finished:
                self.jobs.pop(decision.job_id)
            else:
                self.jobs[decision.job_id] = self.jobs[decision.job_id].after(decision)
            for timer in decision.timers:
                self.timers.set(decision.job_id, timer)
            for key, change in decision.nodes.items():
                state = change.state
                if state.status == "RUNNING" and change.before.status == "DISPATCHED":
                    self.watch(
                        decision.job_id,
                        key,
                        state.attempt,
                        now,
                        now + ATTEMPT_LEASE,
                        self.timeout_of(decision, key),
                    )
            if self.worker is not None:
                for key in decision.dropped:
                    self.worker.revoke(decision.job_id, key)
        for row in tasks:
            if row.claimed_by is not None and self.worker is not None:
                self.watch(
                    row.task.job_id, row.task.key, row.task.attempt, now, now + ATTEMPT_LEASE, row.task.timeout_seconds
                )
                self.worker.start(row.task)
        if self.queued and self.worker is not None:
            self.worker.tasks_waiting()


def mark_running(decision: Decision, key: Key, now: datetime) -> None:
    """The attempt is handed to a worker in this very transaction: its net move is to RUNNING."""
    change = decision.nodes[key]
    running = replace(change.state, status="RUNNING", started_at=now)
    decision.nodes[key] = NodeChange(change.before, running)
    for position, event in enumerate(decision.events):
        if event.kind == "node" and event.key == key:
            decision.events[position] = node_event(key, change.before, running)
