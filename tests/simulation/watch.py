"""The witness: knows what really happened, and objects to the first thing that should not have been written.

It shares no code with what it watches. What can only be judged at the end is in `invariants`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagmaster.contract.decisions import PENDING, AttemptRecord, Decision, NodeState
from dagmaster.contract.messages import Key, Task
from dagmaster.contract.states import JOB_TERMINAL
from dagmaster.contract.store import Batch, Fence
from simulation.loop import Loop, Process
from simulation.swarm import Swarm

if TYPE_CHECKING:
    from simulation.tables import Job, Publication, Tables

NOBODY = "nobody"
"""Who signs messages that make no sense."""
EXACT = timedelta(milliseconds=2)
DRIFTED = timedelta(milliseconds=500)
"""What clocks that run fast make up before they are told the time again."""

Attempt = tuple[str, Key, int]


class Violated(BaseException):
    """An invariant does not hold. No production code catches it."""


@dataclass(slots=True)
class Truth:
    """What really became of one attempt."""

    written_at: datetime
    here: str | None
    """The worker that the tick gave it to."""
    worker: str | None = None
    claimed_at: float = 0.0
    slow: bool = False
    lapsed: datetime | None = None
    """When its lease was over for the first time, if it was renewed after that."""
    said: dict[str, Any] = field(default_factory=dict)
    """Outcomes that its worker reported, with the output."""
    durable_at: datetime | None = None
    """When its first report was in the inbox."""
    published: bool | None = None
    """Whether its publications were applied; None before they were tried for the last time."""


class Watch:
    """One witness per run."""

    def __init__(self, loop: Loop, swarm: Swarm) -> None:
        self.loop = loop
        self.swarm = swarm
        self.tolerance = DRIFTED if swarm.drift else EXACT
        self.attempts: dict[Attempt, Truth] = {}
        self.workers: dict[str, Process] = {}
        self.owners: dict[int, str | None] = {}
        self.poisoned: set[str] = set()
        """Jobs that the engine may give up."""
        self.cancelled: set[str] = set()
        self.log: list[tuple[float, str]] | None = None

    def note(self, text: str) -> None:
        if self.log is not None:
            self.log.append((self.loop.now, text))

    def object(self, why: str) -> None:
        raise Violated(why)

    # --- what the store tells ----------------------------------------------------------------------------

    def suspect(self, why: str) -> None:
        """The engine decides alone for its jobs, so no constraint should ever have to refuse it."""
        self.object(why)

    def taken(self, shard: int, owner: str | None) -> None:
        self.owners[shard] = owner
        self.note(f"shard {shard} belongs to {owner}")

    def before(self, tables: Tables, fence: Fence, batch: Batch) -> None:
        for shard in batch.shards:
            if self.owners.get(shard) != fence.owner:
                self.object(f"I11: {fence.owner} wrote for shard {shard}, which {self.owners.get(shard)} owns")
        if batch.now > self.loop.time() + self.tolerance:
            self.object(f"C35: {fence.owner} decides at {batch.now}, that is {self.loop.time()}")
        for decision in batch.decisions:
            job = tables.jobs[decision.job_id]
            if self.log is not None:
                self.tell(job, decision, fence)
            if job.status in JOB_TERMINAL and (decision.nodes or decision.tasks or decision.attempts):
                self.object(f"I5: {job.job_id} had ended and still moves")
            for key, change in decision.nodes.items():
                present = job.nodes.get(key, PENDING)
                if present != change.before:
                    self.object(f"{job.job_id} {key} was decided on as {change.before}, and is {present}")
                if present.terminal:
                    self.object(f"I5: {job.job_id} {key} was {present.status} and becomes {change.state.status}")
                if present.status == "WAITING" and change.state.status == "COMPLETED":
                    self.check_published(job, key, present.attempt)
                if present.status == "DISPATCHED" and change.state.status == "RUNNING":
                    self.check_started(job, key, change.state)
            for record in decision.attempts:
                self.check_end(job, decision, record)
            for key, attempt, _ in decision.effects:
                told = [each.outcome for each in decision.attempts if (each.key, each.attempt) == (key, attempt)]
                if attempt and told != ["COMPLETED"]:
                    self.object(f"I9: {job.job_id} {key}/{attempt} publishes without having been accepted")

    def check_published(self, job: Job, key: Key, attempt: int) -> None:
        truth = self.attempts.get((job.job_id, key, attempt))
        if truth is None or not truth.published:
            self.object(f"I9: {job.job_id} {key}/{attempt} completed before its publications were applied")

    def check_started(self, job: Job, key: Key, node: NodeState) -> None:
        """C09: a node runs once a worker has begun this very attempt."""
        truth = self.attempts[job.job_id, key, node.attempt]
        line = job.tasks.get(key)
        if truth.worker is None or line is None or line.claimed_at is None:
            self.object(f"C09: {job.job_id} {key}/{node.attempt} is RUNNING, and nobody has claimed it")
        elif truth.here is None and node.started_at != line.claimed_at:
            self.object(
                f"C22: {job.job_id} {key}/{node.attempt} runs since {node.started_at}, claimed {line.claimed_at}"
            )

    def after(self, tables: Tables, batch: Batch) -> None:
        for row in batch.tasks:
            self.check_task(tables, row.task, row.claimed_by)
        for decision in batch.decisions:
            job = tables.jobs[decision.job_id]
            for key, attempt, _ in decision.effects:
                if not attempt:
                    self.attempts[job.job_id, key, 0] = Truth(batch.now, None)
            if decision.finished:
                self.check_finished(tables, job, decision)
            for ordinal in decision.fans:
                self.check_bounds(job, ordinal)

    def check_task(self, tables: Tables, task: Task, here: str | None) -> None:
        """A new attempt: in the right order, not too early, with the params that its inputs give."""
        job = tables.jobs[task.job_id]
        node = job.nodes[task.key]
        if (node.status, node.attempt) != ("DISPATCHED", task.attempt):
            self.object(f"{job.job_id} {task.key}/{task.attempt} is queued, and the node is {node}")
        if job.status in JOB_TERMINAL:
            self.object(f"C19: {job.job_id} has ended and {task.key}/{task.attempt} is queued")
        if task.attempt > 1:
            last = job.attempts.get((task.key, task.attempt - 1))
            if last is None:
                self.object(f"I7: {job.job_id} {task.key}/{task.attempt} is queued before the last attempt ended")
            elif last.outcome in ("FAILED", "TIMED_OUT"):
                due = last.finished_at + timedelta(seconds=least_delay(job, task.key, node.spent))
                if self.loop.time() < due - self.tolerance:
                    self.object(f"B1: {job.job_id} {task.key}/{task.attempt} is queued before {due}")
        source = job.workflow.values_from.get(job.workflow.graph.nodes[task.key.ordinal].id)
        if source is not None:
            record = job.effective.get(Key(job.workflow.graph.by_id[source]))
            if record is None or task.params["from"] != record.output["value"]:
                self.object(f"I6: {job.job_id} {task.key} gets {task.params} and not what was accepted: {record}")
        if task.key.item >= 0 and task.params != {
            "item": job.items(task.key.ordinal)[task.key.item],
            "index": task.key.item,
        }:
            self.object(f"I3: {job.job_id} {task.key} gets {task.params}")
        self.attempts[job.job_id, task.key, task.attempt] = Truth(self.loop.time(), here, here, self.loop.now)

    def check_bounds(self, job: Job, ordinal: int) -> None:
        bound = job.workflow.graph.nodes[ordinal].max_parallel or self.swarm.live_max
        live = sum(
            1 for key, node in job.nodes.items() if key.ordinal == ordinal and key.item >= 0 and not node.terminal
        )
        if live > bound:
            self.object(f"{job.job_id}: {live} children of {ordinal} live, at most {bound} may")

    def check_finished(self, tables: Tables, job: Job, decision: Decision) -> None:
        """The transaction that ends a job leaves nothing of it behind."""
        if job.tasks:
            self.object(f"I8: {job.job_id} has ended and {sorted(job.tasks)} are still queued")
        left = [key for (job_id, key, _) in tables.outbox if job_id == job.job_id]
        if left:
            self.object(f"I8: {job.job_id} has ended and {left} would still be published")
        open_nodes = [key for key, node in job.nodes.items() if not node.terminal]
        if open_nodes:
            self.object(f"I1: {job.job_id} is {job.status} while {open_nodes} have not ended")
        if job.status == "COMPLETED" and any(Key(node.ordinal) not in job.nodes for node in job.workflow.graph.nodes):
            self.object(f"C01: {job.job_id} is COMPLETED and some nodes have never moved")
        code = (job.error or {}).get("code")
        if code == "ENGINE_ERROR" and job.job_id not in self.poisoned:
            self.object(f"{job.job_id} was given up by the engine: {job.error}")
        if job.status == "CANCELLED" and job.job_id not in self.cancelled:
            self.object(f"{job.job_id} was cancelled by nobody")
        if code == "HANDLER_UNKNOWN" and not job.workflow.unknown_handler:
            self.object(f"{job.job_id} was failed for a handler that is known: {decision.error}")

    # --- why an attempt ended ------------------------------------------------------------------------------

    def check_end(self, job: Job, decision: Decision, record: AttemptRecord) -> None:
        """I6, I7: the attempt that the node expected, and for a reason that really was."""
        if record.attempt == 0 and (record.outcome != "COMPLETED" or record.worker is not None):
            self.object(f"I6: {job.job_id} {record.key} is run by the engine, and {record.worker} ended it: {record}")
        if record.attempt == 0:
            return
        name = f"{job.job_id} {record.key}/{record.attempt}"
        truth = self.attempts.get((job.job_id, record.key, record.attempt))
        if record.outcome == "CANCELLED":
            self.check_cancelled(job, decision, record.key, name)
            return
        present = job.nodes.get(record.key, PENDING)
        if present.attempt != record.attempt or present.status not in ("DISPATCHED", "RUNNING") or truth is None:
            self.object(f"I6: {name} ended as {record.outcome} while the node was {present}")
            return
        if record.outcome in ("COMPLETED", "FAILED", "RELEASED"):
            if record.outcome not in truth.said:
                self.object(f"I7: {name} is {record.outcome}, and its worker never said so")
            if record.outcome == "RELEASED" and next(iter(truth.said)) != "RELEASED":
                self.object(f"I7: {name} is RELEASED, and its worker had said {list(truth.said)} before")
            if record.outcome == "COMPLETED" and truth.said["COMPLETED"] != record.output:
                self.object(f"I6: {name} returned {truth.said['COMPLETED']}, kept is {record.output}")
        elif record.outcome == "LOST":
            self.check_lost(job, record, truth, name)
        elif (record.error or {}).get("code") == "QUEUE_TIMEOUT":
            self.check_queued_too_long(job, record, name)
        else:
            self.check_ran_too_long(truth, name)

    def check_cancelled(self, job: Job, decision: Decision, key: Key, name: str) -> None:
        stopped = decision.nodes.get(Key(key.ordinal))
        if not decision.finished and (key.item < 0 or stopped is None or stopped.state.status != "FAILED"):
            self.object(f"I7: {name} is CANCELLED while {job.job_id} goes on")

    def check_lost(self, job: Job, record: AttemptRecord, truth: Truth, name: str) -> None:
        line = job.tasks.get(record.key)
        until = truth.lapsed or (line.lease_until if line is not None else None)
        if until is None:
            self.object(f"I7: {name} is LOST and nobody had claimed it")
        elif until > self.loop.time() + self.tolerance:
            self.object(f"I7: {name} is LOST while its lease runs until {until}")
        elif truth.durable_at is not None and truth.durable_at <= until:
            self.object(f"C21: {name} is LOST although its report was there at {truth.durable_at}")

    def check_ran_too_long(self, truth: Truth, name: str) -> None:
        worker = self.workers[truth.worker] if truth.worker is not None else None
        if worker is None or (not truth.slow and worker.impaired_until < truth.claimed_at):
            self.object(f"I7: {name} is TIMED_OUT and nothing was wrong with its worker")

    def check_queued_too_long(self, job: Job, record: AttemptRecord, name: str) -> None:
        line = job.tasks.get(record.key)
        task = job.workflow.graph.nodes[record.key.ordinal].task
        assert task is not None
        if line is None or task.queue_timeout_seconds is None:
            self.object(f"I7: {name} waited too long in no queue")
        elif line.claimed_at is not None:
            due = line.task.queued_at + timedelta(seconds=task.queue_timeout_seconds)
            if line.claimed_at < due - self.tolerance:
                self.object(f"C21: {name} was claimed at {line.claimed_at}, in time before {due}")

    # --- what workers and publishers do ----------------------------------------------------------------------

    def claimed(self, tables: Tables, task: Task, worker: str) -> None:
        job = tables.jobs[task.job_id]
        name = f"{task.job_id} {task.key}/{task.attempt}"
        line = job.tasks.get(task.key)
        if line is None or line.claimed_by is not None:
            self.object(f"C08: {name} is claimed by {worker}, and it is {line}")
        if job.status in JOB_TERMINAL:
            self.object(f"C19: {name} is claimed after the end of its job")
        truth = self.attempts[task.job_id, task.key, task.attempt]
        truth.worker, truth.claimed_at = worker, self.loop.now
        self.note(f"{worker} claims {name}")

    def started_here(self, task: Task, worker: str) -> None:
        truth = self.attempts.get((task.job_id, task.key, task.attempt))
        if truth is None or truth.here != worker:
            self.object(f"C03: {task.job_id} {task.key}/{task.attempt} starts in {worker} and was never written so")

    def says(self, task: Task, outcome: str, output: Any) -> None:
        """A worker is about to report."""
        self.attempts[task.job_id, task.key, task.attempt].said[outcome] = output
        self.note(f"{task.job_id} {task.key}/{task.attempt} will be reported {outcome}")

    def reported(self, tables: Tables, job_id: str, body: dict[str, Any]) -> None:
        """A report has become durable."""
        if body.get("worker", NOBODY) == NOBODY:
            return
        truth = self.attempts[job_id, Key(body["ordinal"], body["item"]), body["attempt"]]
        if truth.durable_at is None:
            truth.durable_at = self.loop.time()

    def lapses(self, job_id: str, key: Key, attempt: int, at: datetime) -> None:
        truth = self.attempts.get((job_id, key, attempt))
        if truth is not None and truth.lapsed is None:
            truth.lapsed = at

    def applies(self, tables: Tables, publication: Publication) -> None:
        """I9: only what was accepted, still stands and was not revoked is applied."""
        job = tables.jobs[publication.job_id]
        name = f"{publication.job_id} {publication.key}/{publication.attempt}"
        node = job.nodes.get(publication.key, PENDING)
        if (publication.job_id, publication.key, publication.attempt) not in tables.outbox:
            self.object(f"I9: {name} is published after it was revoked")
        if (node.status, node.attempt) != ("WAITING", publication.attempt):
            self.object(f"I9: {name} is published while the node is {node.status}/{node.attempt}")
        self.note(f"{name} is published")

    def settled(self, publication: Publication, error: dict[str, Any] | None) -> None:
        self.attempts[publication.job_id, publication.key, publication.attempt].published = error is None

    # --- the log ---------------------------------------------------------------------------------------------

    def tell(self, job: Job, decision: Decision, fence: Fence) -> None:
        moves = " ".join(
            f"{key.ordinal}{f'.{key.item}' if key.item >= 0 else ''}:{change.before.status}>{change.state.status}/{change.state.attempt}"
            for key, change in decision.nodes.items()
        )
        ends = " ".join(
            f"{record.key.ordinal}.{record.key.item}/{record.attempt}={record.outcome}" for record in decision.attempts
        )
        notes = " ".join(f"({event.kind} {event.data})" for event in decision.events if event.kind == "superseded")
        self.note(f"{fence.owner} {job.job_id} {decision.status_before}>{decision.status} {moves} {ends} {notes}")


def least_delay(job: Job, key: Key, spent: int) -> float:
    """How long the next attempt has to wait at the least, by the document."""
    node = job.workflow.graph.nodes[key.ordinal].id
    said = job.workflow.document["nodes"][node]
    retry = said["task"]["retry"] if key.item >= 0 else said["retry"]
    growth = {"fixed": 1, "linear": spent, "exponential": 2 ** (spent - 1)}[retry["backoff"]]
    return float(min(retry["initial_delay_seconds"] * growth, retry["max_delay_seconds"]))
