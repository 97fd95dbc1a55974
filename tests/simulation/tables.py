"""The model of Postgres: the tables as dicts, each transaction applied at one moment, refused for the same reasons.

The rules follow the migrations: what `dagmaster.tick` does, in its order, with its constraints and triggers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from dagmaster.contract.decisions import AttemptRecord, Event, JobSnapshot, LiveTask, NodeState
from dagmaster.contract.messages import ATTEMPT_LEASE, Key, Started, Task
from dagmaster.contract.states import JOB_MOVES, JOB_TERMINAL, NODE_MOVES
from dagmaster.contract.store import Batch, Fence, InboxRow, JobHead, Survey, Turn
from dagmaster.db.inbox import started_body
from dagmaster.errors import DecisionUnwritable, OwnershipLost, StaleState
from simulation.loop import EPOCH, Loop
from simulation.watch import Watch
from simulation.workflows import Workflow

LONG_AGO = EPOCH - timedelta(days=1)
NUL = b"\\u0000"


@dataclass(slots=True)
class TaskLine:
    """A row of the queue."""

    task: Task
    claimed_by: str | None
    claimed_at: datetime | None
    lease_until: datetime | None


@dataclass(slots=True)
class Publication:
    """The rows of the outbox that belong to one attempt."""

    id: int
    job_id: str
    key: Key
    attempt: int
    effects: tuple[dict[str, Any], ...]
    due_at: datetime
    failures: int = 0
    locked: bool = False


@dataclass(slots=True)
class Job:
    """A job with everything that hangs on it."""

    job_id: str
    shard: int
    workflow: Workflow
    readable: bool
    priority: int
    inputs: dict[str, Any]
    status: str = "PENDING"
    error: dict[str, Any] | None = None
    finished_at: datetime | None = None
    nodes: dict[Key, NodeState] = field(default_factory=dict)
    attempts: dict[tuple[Key, int], AttemptRecord] = field(default_factory=dict)
    effective: dict[Key, AttemptRecord] = field(default_factory=dict)
    events: list[tuple[int, datetime, Event]] = field(default_factory=list)
    numbered: set[tuple[int, datetime]] = field(default_factory=set)
    tasks: dict[Key, TaskLine] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.workflow.graph.digest if self.readable else f"unreadable-{self.job_id}"

    def items(self, ordinal: int) -> Any:
        """What the source of a fan-out yields, by the accepted outputs."""
        name = self.workflow.items_from[ordinal]
        if name is None:
            return self.inputs["items"]
        record = self.effective[Key(self.workflow.graph.by_id[name])]
        node = self.workflow.document["nodes"][self.workflow.graph.nodes[ordinal].id]
        return record.output["pick" if "pick" in node["source"] else "items"]


@dataclass(slots=True)
class Shard:
    """Who decides for a part of the jobs."""

    owner: str | None = None
    epoch: int = 0
    lease_until: datetime = LONG_AGO
    held: int = 0
    """Ticks that hold it while they wait for something else."""


class Tables:
    """Everything that outlives processes."""

    def __init__(self, loop: Loop, shard_count: int, watch: Watch) -> None:
        self.loop = loop
        self.watch = watch
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        """Idempotency keys and the jobs they made."""
        self.shards = [Shard() for _ in range(shard_count)]
        self.orchestrators: dict[str, tuple[int, datetime]] = {}
        self.sessions: set[int] = set()
        """Liveness locks that are held."""
        self.inbox: list[dict[int, InboxRow]] = [{} for _ in range(shard_count)]
        self.quarantine: list[tuple[InboxRow, str]] = []
        self.outbox: dict[tuple[str, Key, int], Publication] = {}
        self.live: list[set[str]] = [set() for _ in range(shard_count)]
        """Jobs that have not ended, by shard."""
        self.waiting: dict[tuple[str, Key], TaskLine] = {}
        """Tasks that nobody has claimed."""
        self._ids = itertools.count(1)

    # --- a tick --------------------------------------------------------------------------------------

    def turn(self, fence: Fence, batch: Batch | None, look: Sequence[int], limit: int) -> Turn:
        if batch is not None:
            for part in self.parts(fence, batch):
                part()
        return self.look(look, limit)

    def parts(self, fence: Fence, batch: Batch) -> list[Callable[[], None]]:
        """The transaction in its parts; nothing happens between them, and a refusal comes before anything is written."""
        return [
            lambda: self.hold_shards(fence, batch),
            lambda: self.check(batch),
            lambda: self.watch.before(self, fence, batch),
            lambda: self.drop(batch),
            lambda: self.write_nodes(batch),
            lambda: self.write_effects(batch),
            lambda: self.write_tasks(batch),
            lambda: self.write_attempts(batch),
            lambda: self.write_events(batch),
            lambda: self.write_jobs(batch),
            lambda: self.consume(batch),
            lambda: self.watch.after(self, batch),
        ]

    def locked(self, batch: Batch) -> bool:
        """A publisher is about to apply what the batch revokes: the tick waits for it."""
        return any(
            publication.locked
            for decision in batch.decisions
            for key in decision.revoked
            for publication in self.publications_of(decision.job_id, key)
        )

    def publications_of(self, job_id: str, key: Key) -> list[Publication]:
        return [each for each in self.outbox.values() if each.job_id == job_id and each.key == key]

    def hold_shards(self, fence: Fence, batch: Batch) -> None:
        for shard in batch.shards:
            row = self.shards[shard]
            if row.owner != fence.owner or row.epoch != fence.epochs[shard]:
                raise OwnershipLost(shard=shard)

    def check(self, batch: Batch) -> None:
        """Constraints and triggers: what they refuse leaves nothing written."""
        for decision, seq in zip(batch.decisions, batch.seqs, strict=True):
            job = self.jobs[decision.job_id]
            for key, change in decision.nodes.items():
                self.check_move(job, key, change.state)
            if decision.status != decision.status_before:
                self.check_end(job, decision.status)
            for record in decision.attempts:
                if (record.key, record.attempt) in job.attempts:
                    self.refuse(f"attempt {record.attempt} of {record.key} has ended before")
                if record.outcome == "COMPLETED" and record.key in job.effective:
                    self.refuse(f"{record.key} has two results")
                writable(record.output)
            for number in range(seq + 1, seq + 1 + len(decision.events)):
                if (number, batch.now) in job.numbered:
                    self.refuse(f"event {number} is there already")
            for key, attempt, effects in decision.effects:
                if (job.job_id, key, attempt) in self.outbox:
                    self.refuse(f"{key} publishes twice")
                writable(effects)
        gone = {(decision.job_id, key) for decision in batch.decisions for key in decision.dropped}
        for row in batch.tasks:
            named = (row.task.job_id, row.task.key)
            if row.task.key in self.jobs[row.task.job_id].tasks and named not in gone:
                self.refuse(f"{named} is queued already")
            writable(row.task.params)

    def refuse(self, why: str) -> None:
        self.watch.suspect(f"refused by a constraint: {why}")
        raise DecisionUnwritable(id="simulated", why=why)

    def check_move(self, job: Job, key: Key, after: NodeState) -> None:
        before = job.nodes.get(key)
        if before is not None and before.status != after.status and after.status not in NODE_MOVES[before.status]:
            self.watch.suspect(f"refused by a trigger: {key} {before.status} -> {after.status}")
            raise StaleState(noun="node", id=str(key), why=f"{before.status} -> {after.status}")
        if (after.finished_at is not None) != after.terminal:
            self.refuse(f"{key} is {after.status} and finished at {after.finished_at}")

    def check_end(self, job: Job, status: str) -> None:
        if status != job.status and status not in JOB_MOVES[job.status]:
            self.watch.suspect(f"refused by a trigger: job {job.status} -> {status}")
            raise StaleState(noun="job", id=job.job_id, why=f"{job.status} -> {status}")

    def drop(self, batch: Batch) -> None:
        for decision in batch.decisions:
            for key in decision.dropped:
                self.jobs[decision.job_id].tasks.pop(key, None)
                self.waiting.pop((decision.job_id, key), None)
            for key in decision.revoked:
                for publication in self.publications_of(decision.job_id, key):
                    del self.outbox[publication.job_id, publication.key, publication.attempt]

    def write_nodes(self, batch: Batch) -> None:
        for decision in batch.decisions:
            nodes = self.jobs[decision.job_id].nodes
            for key, change in decision.nodes.items():
                nodes[key] = change.state

    def write_effects(self, batch: Batch) -> None:
        for decision in batch.decisions:
            for key, attempt, effects in decision.effects:
                self.outbox[decision.job_id, key, attempt] = Publication(
                    next(self._ids), decision.job_id, key, attempt, effects, batch.now
                )

    def write_tasks(self, batch: Batch) -> None:
        for row in batch.tasks:
            task, here = row.task, row.claimed_by is not None
            line = TaskLine(
                task, row.claimed_by, batch.now if here else None, batch.now + batch.lease if here else None
            )
            self.jobs[task.job_id].tasks[task.key] = line
            if not here:
                self.waiting[task.job_id, task.key] = line

    def write_attempts(self, batch: Batch) -> None:
        for decision in batch.decisions:
            job = self.jobs[decision.job_id]
            for record in decision.attempts:
                job.attempts[record.key, record.attempt] = record
                if record.outcome == "COMPLETED":
                    job.effective[record.key] = record

    def write_events(self, batch: Batch) -> None:
        for decision, seq in zip(batch.decisions, batch.seqs, strict=True):
            job = self.jobs[decision.job_id]
            for number, event in enumerate(decision.events, start=seq + 1):
                job.events.append((number, batch.now, event))
                job.numbered.add((number, batch.now))

    def write_jobs(self, batch: Batch) -> None:
        for decision in batch.decisions:
            if decision.status != decision.status_before:
                job = self.jobs[decision.job_id]
                job.status, job.error = decision.status, decision.error
                if decision.finished:
                    job.finished_at = batch.now
                    self.live[job.shard].discard(job.job_id)

    def consume(self, batch: Batch) -> None:
        self.quarantine.extend(batch.quarantined)
        for row in batch.consumed:
            self.inbox[row.shard].pop(row.id, None)

    def look(self, shards: Sequence[int], limit: int) -> Turn:
        now = self.loop.time()
        if not shards:
            return Turn(now, [])
        found = [row for shard in shards for row in self.inbox[shard].values()]
        if len(found) > 1:
            found.sort(key=lambda row: row.id)
        messages = [self.with_head(row) for row in found[:limit]]
        return Turn(now, messages, any(each.due_at <= now for each in self.outbox.values()))

    def with_head(self, row: InboxRow) -> InboxRow:
        job = self.jobs.get(row.job_id) if row.kind == "submitted" else None
        if job is None or job.status != "PENDING":
            return row
        head = JobHead(job.digest, job.priority, job.inputs)
        return InboxRow(row.shard, row.id, row.job_id, row.kind, row.body, head)

    # --- what else the engine reads --------------------------------------------------------------------

    def load(self, job_ids: Sequence[str]) -> list[JobSnapshot]:
        return [self.snapshot(self.jobs[job_id]) for job_id in job_ids if job_id in self.jobs]

    def snapshot(self, job: Job) -> JobSnapshot:
        seq = max((number for number, _, _ in job.events), default=0)
        found = JobSnapshot(job.job_id, job.shard, job.digest, job.status, job.priority, job.inputs, seq)
        for key, node in job.nodes.items():
            if key.item < 0 or not node.terminal:
                found.nodes[key] = node
            if key.item >= 0:
                created, completed, failed = found.children.get(key.ordinal, (0, 0, 0))
                done = node.status == "COMPLETED"
                lost = node.terminal and not done
                found.children[key.ordinal] = (max(created, key.item + 1), completed + done, failed + lost)
        for key, record in job.effective.items():
            if key.item < 0 or job.nodes[key].status == "WAITING":
                found.outputs[key] = record.output
        found.tasks.extend(
            LiveTask(
                key,
                line.task.attempt,
                line.task.timeout_seconds,
                line.task.queued_at,
                line.claimed_by,
                line.claimed_at,
                line.lease_until,
            )
            for key, line in job.tasks.items()
        )
        return found

    def task_leases(self, keys: Sequence[tuple[str, Key]]) -> dict[tuple[str, Key], tuple[int, datetime]]:
        found = {}
        for job_id, key in keys:
            line = self.jobs[job_id].tasks.get(key)
            if line is not None and line.lease_until is not None:
                found[job_id, key] = (line.task.attempt, line.lease_until)
        return found

    def definitions(self, digests: Sequence[str]) -> dict[str, Any]:
        documents = {job.digest: job.workflow.document if job.readable else None for job in self.jobs.values()}
        return {digest: documents[digest] for digest in digests if digest in documents}

    def live_jobs(self, shards: Sequence[int]) -> list[str]:
        return [job_id for shard in shards for job_id in sorted(self.live[shard])]

    # --- leases on shards ------------------------------------------------------------------------------

    def renew_shards(self, owner: str, liveness_key: int, lease: timedelta) -> dict[int, int]:
        until = self.loop.time() + lease
        self.orchestrators[owner] = (liveness_key, until)
        held = {}
        for number, row in enumerate(self.shards):
            if row.owner == owner:
                row.lease_until = until
                held[number] = row.epoch
        return held

    def survey(self) -> Survey:
        now = self.loop.time()
        gone = {name for name, (key, _) in self.orchestrators.items() if key not in self.sessions}
        live = sum(until > now for name, (_, until) in self.orchestrators.items() if name not in gone)
        free = [
            number
            for number, row in enumerate(self.shards)
            if row.owner is None or row.lease_until <= now or row.owner in gone or row.owner not in self.orchestrators
        ]
        return Survey(live, free)

    def take(self, owner: str, wanted: Sequence[int], lease: timedelta) -> dict[int, int]:
        free = set(self.survey().free)
        until = self.loop.time() + lease
        taken = {}
        for number in wanted:
            if number in free:
                row = self.shards[number]
                row.owner, row.lease_until = owner, until
                row.epoch = self.next_epoch(row)
                taken[number] = row.epoch
                self.watch.taken(number, owner)
        return taken

    def next_epoch(self, row: Shard) -> int:
        return row.epoch + 1

    def release(self, owner: str, held: Iterable[int]) -> None:
        for number in held:
            row = self.shards[number]
            if row.owner == owner:
                row.owner, row.lease_until = None, LONG_AGO
                self.watch.taken(number, None)

    def leave(self, owner: str) -> None:
        self.orchestrators.pop(owner, None)

    # --- the inbox ---------------------------------------------------------------------------------------

    def next_id(self) -> int:
        """Numbers are handed out when a transaction writes, and seen when it commits."""
        return next(self._ids)

    def send(self, job_id: str, kind: str, body: dict[str, Any], number: int | None = None) -> bool:
        job = self.jobs.get(job_id)
        if job is None:
            return False
        number = number if number is not None else self.next_id()
        self.inbox[job.shard][number] = InboxRow(job.shard, number, job_id, kind, body)
        if kind == "report":
            self.watch.reported(self, job_id, body)
        return True

    def send_astray(self, shard: int, job_id: str, kind: str, body: dict[str, Any]) -> None:
        """A message for a job that there is not: its sender named the shard, so nobody asked for the job."""
        number = self.next_id()
        self.inbox[shard][number] = InboxRow(shard, number, job_id, kind, body)

    def submit(self, key: str, job: Job) -> str:
        """One job per idempotency key, with its first message."""
        if key in self.keys:
            return self.keys[key]
        self.keys[key] = job.job_id
        self.jobs[job.job_id] = job
        self.live[job.shard].add(job.job_id)
        self.send(job.job_id, "submitted", {})
        return job.job_id

    # --- workers -------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> list[Task]:
        """The oldest of the most urgent tasks; each claim puts its start into the inbox."""
        now = self.loop.time()
        lines = sorted(self.claimable(), key=lambda line: (-line.task.priority, line.task.queued_at))[:limit]
        for line in lines:
            task = line.task
            self.watch.claimed(self, task, worker)
            line.claimed_by, line.claimed_at, line.lease_until = worker, now, now + ATTEMPT_LEASE
            self.waiting.pop((task.job_id, task.key), None)
            started = Started(task.key, task.attempt, worker, now, task.timeout_seconds)
            self.send(task.job_id, "started", started_body(started))
        return [line.task for line in lines]

    def claimable(self) -> Iterable[TaskLine]:
        return self.waiting.values()

    def renew_worker(self, worker: str) -> set[tuple[str, Key, int]]:
        now = self.loop.time()
        until = now + ATTEMPT_LEASE
        held = set()
        for shard in self.live:
            for job_id in shard:
                for key, line in self.jobs[job_id].tasks.items():
                    if line.claimed_by == worker:
                        if line.lease_until is not None and line.lease_until < now:
                            self.watch.lapses(job_id, key, line.task.attempt, line.lease_until)
                        line.lease_until = until
                        held.add((job_id, key, line.task.attempt))
        return held

    # --- the publisher -------------------------------------------------------------------------------------

    def due(self) -> Publication | None:
        """The publication that has waited longest and nobody else applies."""
        now = self.loop.time()
        for publication in self.outbox.values():
            if publication.due_at <= now and not publication.locked:
                return publication
        return None

    def settle(self, publication: Publication, answer: dict[str, Any]) -> None:
        del self.outbox[publication.job_id, publication.key, publication.attempt]
        self.send(publication.job_id, "published", answer)

    def postpone(self, publication: Publication, delay: timedelta) -> None:
        publication.failures += 1
        publication.due_at = self.loop.time() + delay

    # --- the end -------------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Every job has ended and nothing of them is left to do."""
        return not (any(self.live) or any(self.inbox) or self.outbox or self.waiting)


def text_of(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def writable(value: Any) -> None:
    """Errors: DecisionUnwritable for what JSON or Postgres cannot hold."""
    try:
        text = text_of(value)
    except TypeError as problem:
        raise DecisionUnwritable(id="simulated", why=str(problem)) from problem
    if NUL in text:
        raise DecisionUnwritable(id="simulated", why="a character that Postgres cannot hold")


def ended(job: Job) -> bool:
    return job.status in JOB_TERMINAL
