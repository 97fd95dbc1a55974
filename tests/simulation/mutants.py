"""The gate: each mutant takes one cure out of the engine, or out of the rules of its store; the simulation has to notice.

A mutant is an edit of the source of a function, applied in memory. An edit that no longer fits is an error, so that no
mutant turns into the program itself unnoticed. `python -m simulation.mutants` prints how many seeds each one lives.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from dagmaster.contract.store import Batch, Fence, Turn
from dagmaster.dag import decide, restore
from dagmaster.engine import orchestrator, ownership, tick
from simulation import tables, world
from simulation.run import simulate
from simulation.swarm import MODES

SEEDS_MAX = 500
ENGINE = (decide, restore, tick, orchestrator, ownership)
"""Modules that may have imported a function by its name."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of the source of one function, and what stands in its place."""

    module: ModuleType
    place: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Another value for a name."""

    module: ModuleType
    place: str
    value: Any


@dataclass(frozen=True, slots=True)
class Mutant:
    """The cure that is missing, and how it is taken out."""

    cure: str
    changes: tuple[Edit | Swap, ...]


def without(cure: str, module: ModuleType, place: str, before: str, after: str) -> Mutant:
    return Mutant(cure, (Edit(module, place, before, after),))


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The program without the cure, as long as the block lasts."""
    undo = []
    try:
        for change in mutant.changes:
            owner, name = owner_of(change.module, change.place)
            original = getattr(owner, name)
            value = edited(change) if isinstance(change, Edit) else change.value
            users = [module for module in ENGINE if getattr(module, name, None) is original]
            for place in {id(each): each for each in (owner, *users)}.values():
                undo.append((place, name, original))
                setattr(place, name, value)
        yield
    finally:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)


def owner_of(module: ModuleType, place: str) -> tuple[Any, str]:
    head, _, name = place.rpartition(".")
    return (getattr(module, head) if head else module), name


def edited(edit: Edit) -> Any:
    """The function with the edit in it. Errors: ValueError when the piece is not there exactly once."""
    owner, name = owner_of(edit.module, edit.place)
    function = getattr(owner, name)
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(edit.before) != 1:
        raise ValueError(f"{edit.module.__name__}.{edit.place} holds {source.count(edit.before)} times: {edit.before}")
    made: dict[str, Any] = {}
    exec(source.replace(edit.before, edit.after), edit.module.__dict__, made)
    return made[name]


def seeds_to_kill(mutant: Mutant, most: int = SEEDS_MAX) -> tuple[int, str] | None:
    """After how many seeds, each in both modes, the simulation objects, and to what; None for a survivor."""
    with applied(mutant):
        for seed in range(most):
            for mode in MODES:
                verdict = simulate(seed, mode)
                if verdict.violation is not None:
                    return seed + 1, verdict.violation
    return None


# --- transactions that are none ----------------------------------------------------------------------------


async def tasks_afterwards(
    self: world.Connection, fence: Fence, batch: Batch | None, look: list[int], limit: int
) -> Turn:
    """New tasks are handed out once everything else is written, as a program without an outbox does."""
    store = self.world.tables
    if batch is None or not batch.tasks:
        return await self.call(lambda: store.turn(fence, batch, look, limit))
    parts = store.parts(fence, batch)
    tasks = parts.pop(PARTS.index("write_tasks"))
    parts.pop()  # the witness looks when everything is there
    await self.call(lambda: [part() for part in parts])

    def rest() -> Turn:
        tasks()
        store.watch.after(store, batch)
        return store.look(look, limit)

    return await self.call(rest)


async def messages_before(
    self: world.Connection, fence: Fence, batch: Batch | None, look: list[int], limit: int
) -> Turn:
    """Messages are deleted when they have been read, and not with what follows from them."""
    store = self.world.tables
    if batch is not None and batch.consumed:
        await self.call(lambda: store.consume(batch))
    return await self.call(lambda: store.turn(fence, batch, look, limit))


async def children_apart(
    self: world.Connection, fence: Fence, batch: Batch | None, look: list[int], limit: int
) -> Turn:
    """Nodes are written in one transaction, and everything else in the next."""
    store = self.world.tables
    if batch is None or not any(decision.fans for decision in batch.decisions):
        return await self.call(lambda: store.turn(fence, batch, look, limit))
    parts = store.parts(fence, batch)
    cut = PARTS.index("write_nodes") + 1
    await self.call(lambda: [part() for part in parts[:cut]])

    def rest() -> Turn:
        store.hold_shards(fence, batch)
        for part in parts[cut:]:
            part()
        return store.look(look, limit)

    return await self.call(rest)


PARTS = (
    *("hold_shards", "check", "before", "drop", "write_nodes", "write_effects", "write_tasks", "write_attempts"),
    *("write_events", "write_jobs", "consume", "after"),
)


# --- the mutants -------------------------------------------------------------------------------------------

NOTHING_FORGOTTEN = (
    Edit(tick, "Tick.forget", "self.drop(job_id)", "pass"),
    Edit(tick, "Tick.decide_and_write", "self.drop(job_id)", "pass"),
    Edit(orchestrator, "Orchestrator._drop_everything", "self.ownership.epochs = {}", "pass"),
)

MUTANTS: dict[str, Mutant] = {
    # What a message may do.
    "any-attempt": without(
        "only the attempt that the node expects may move it (C06)",
        *(decide, "_Work.expects", "attempt > 0 and node.attempt == attempt and ", ""),
    ),
    "any-state": without(
        "only a node that runs takes a report: duplicates change nothing (C08)",
        *(decide, "_Work.expects", " and node.status in ACTIVE", ""),
    ),
    "attempt-zero": without(
        "no worker runs a node of the engine itself", *(decide, "_Work.expects", "attempt > 0 and ", "")
    ),
    "any-start": without(
        "a start counts only for the attempt that is expected (C09)",
        *(
            decide,
            "_Work.hear_started",
            'node.attempt != message.attempt or node.status != "DISPATCHED"',
            'node.status != "DISPATCHED"',
        ),
    ),
    "any-publication": without(
        "a publication completes only the node that waits for it",
        *(decide, "_Work.hear_published", 'node.attempt != message.attempt or node.status != "WAITING"', "False"),
    ),
    "after-the-end": without(
        "nothing moves in a job that has ended (C19)",
        *(decide, "_Work.hear", "self.decision.status in JOB_TERMINAL", "False"),
    ),
    "report-keeps-task": without(
        "the task goes with the report of its attempt",
        *(decide, "_Work.hear_report", "self.decision.dropped.append(key)", "pass"),
    ),
    "cancel-keeps-tasks": without(
        "a cancel takes the tasks out of the queue in the same transaction (C19)",
        *(decide, "_Work.cancel", "self.decision.dropped.append(key)", "pass"),
    ),
    "cancel-keeps-publications": without(
        "a cancel takes publications back", *(decide, "_Work.cancel", "self.decision.revoked.append(key)", "pass")
    ),
    "cancel-publishes": without(
        "what is accepted and cancelled in one decision is not published",
        *(decide, "_Work.cancel", "if effect[0] != key", ""),
    ),
    # Retries.
    "retry-at-once": without(
        "a retry waits for its delay (C30)", *(decide, "_Work.again", "if seconds <= 0:", "if seconds >= 0:")
    ),
    "release-spends": without(
        "an attempt that was given back spends no retry",
        *(
            decide,
            "_Work.hear_report",
            "self.again(key, 0.0)",
            "self.current[key] = self.node(key)._replace(spent=self.node(key).spent + 1); self.again(key, 0.0)",
        ),
    ),
    "endless-retries": without(
        "failed attempts spend the budget",
        *(decide, "_Work.attempt_failed", "spent = self.node(key).spent + 1", "spent = 1"),
    ),
    "timeout-from-dispatch": Mutant(
        "waiting in the queue is not running (C22)",
        (
            Edit(
                decide,
                "_Work.dispatch",
                "self.decision.tasks.append(",
                'due = self.now + timedelta(seconds=spec.timeout_seconds or 40.0)\n    self.decision.timers.append(Timer(key, attempt, "timeout", due))\n    self.decision.tasks.append(',
            ),
            Swap(decide, "WATCHED", decide.WATCHED | {"timeout": ("DISPATCHED", "RUNNING")}),
        ),
    ),
    "lease-not-looked-up": without(
        "a lease is looked up again before its attempt counts as lost (C24)",
        *(tick, "Tick.ring", 'if timer.kind != "lease":', "if True:"),
    ),
    "deadline-before-messages": Mutant(
        "what came in time is heard before the deadline (C21)",
        (
            Edit(tick, "Tick.is_overdue", "return due is not None and", "return False and due is not None and"),
            Edit(tick, "Tick.ring", "now = min(self.now(), self.read_until)", "now = self.now()"),
        ),
    ),
    "own-clock": without(
        "the store's clock alone has authority (C35)",
        *(tick, "Tick.now", "self.clock() - at", "self.clock() - at + self.clock.__self__.skew"),
    ),
    "told-once": without(
        "the store's time is taken with every call, because monotonic clocks drift",
        *(
            tick,
            "Tick.write",
            "self.told = (turn.now, self.clock())",
            "self.told = self.told or (turn.now, self.clock())",
        ),
    ),
    # The graph.
    "no-skip": without(
        "a failure skips what needs it (C18)",
        *(decide, "_Work.look_at", "elif ready is Readiness.SKIP_FAILED:", "elif False:"),
    ),
    "skip-forgets-why": without(
        "a skip for a failure counts as a failure further on",
        *(
            decide,
            "_Work.look_at",
            'self.move(key, status="SKIPPED", error=error | {"node": node.id})',
            'self.move(key, status="SKIPPED")',
        ),
    ),
    "early-finish": without(
        "a job ends when all of its nodes have ended (C01)",
        *(decide, "_Work.finish", "self.ended < len(self.graph.nodes)", "self.ended < len(self.graph.nodes) - 1"),
    ),
    "failure-forgotten": without(
        "a failure that nothing handles fails the job",
        *(decide, "_Work.finish", 'state.status == "FAILED" and not self.handled(node)', "False"),
    ),
    "child-missing": without(
        "a fan-out has one child for each item (C14)",
        *(decide, "_Work.open_fan", "FanState(len(items))", "FanState(max(0, len(items) - 1))"),
    ),
    "expected-children": without(
        "a fan-in waits for all children, not for those that exist (C15)",
        *(
            decide,
            "_Work.advance_fan",
            "fan.completed + fan.failed == fan.width",
            "fan.completed + fan.failed == fan.cursor",
        ),
    ),
    "siblings-go-on": without(
        "a fan-out that fails stops its children", *(decide, "_Work.advance_fan", "self.stop_children(node)", "pass")
    ),
    "no-max-parallel": without(
        "no more children live than may",
        *(decide, "_Work.hand_out", "room = (node.max_parallel or CHILDREN_LIVE_MAX) - fan.live", "room = fan.width"),
    ),
    "no-waiting": without(
        "a node completes when its publications are applied",
        *(decide, "_Work.accept", 'self.move(key, status="WAITING")', "self.complete(key, message.output)"),
    ),
    "events-lost": without(
        "every move has its event in the same transaction (C43)",
        *(
            decide,
            "_Work.close",
            "self.decision.events.append(node_event(key, before, after))",
            "if after.terminal: self.decision.events.append(node_event(key, before, after))",
        ),
    ),
    # Reloads.
    "width-not-restored": without(
        "how wide a fan-out is follows from its source, not from its children",
        *(
            restore,
            "restore",
            "FanState(_width(state, node.ordinal, created), created, completed, failed)",
            "FanState(created, created, completed, failed)",
        ),
    ),
    "failures-not-restored": without(
        "failed children count after a reload",
        *(
            restore,
            "restore",
            "FanState(_width(state, node.ordinal, created), created, completed, failed)",
            "FanState(_width(state, node.ordinal, created), created, completed + failed, 0)",
        ),
    ),
    "numbers-not-restored": without(
        "events are numbered on after a reload", *(restore, "restore", "seq=snapshot.seq", "seq=0")
    ),
    "retries-not-restored": without(
        "retries go on after a reload",
        *(tick, "Tick.set_clocks", 'if node.status == "READY" and node.not_before is not None:', "if False:"),
    ),
    "leases-not-restored": without(
        "leases are watched after a reload",
        *(tick, "Tick.watch", 'self.timers.set(job_id, Timer(key, attempt, "lease", lease_until))', "pass"),
    ),
    "gained-not-read": without(
        "jobs of a shard taken over are read at once",
        *(
            orchestrator,
            "Orchestrator._keep",
            "await self.ticks.take(store, await store.load(jobs) if jobs else [])",
            "pass",
        ),
    ),
    # Ownership and unknown outcomes.
    "no-fence": without(
        "only the owner writes (C05)",
        *(tables, "Tables.hold_shards", "row.owner != fence.owner or row.epoch != fence.epochs[shard]", "False"),
    ),
    "same-epoch": without(
        "the epoch grows with every change of owner", *(tables, "Tables.next_epoch", "row.epoch + 1", "row.epoch")
    ),
    "loss-unnoticed": without(
        "an epoch that has grown means that everything is read anew",
        *(ownership, "Ownership.keep", "if before.get(shard) != epoch}", "if shard not in before}"),
    ),
    "nothing-forgotten": Mutant("after an unknown outcome nothing in memory is believed (C39)", NOTHING_FORGOTTEN),
    "delivered-dropped": without(
        "what was delivered in memory is kept when a tick fails",
        *(tick, "Tick.run", "self.delivered = delivered + self.delivered", "pass"),
    ),
    "not-sent-back": without(
        "what was delivered for a shard that is gone goes to whoever has it",
        *(
            orchestrator,
            "Orchestrator._send_back",
            "strays[0]",
            "strays[0]; self.ticks.delivered.remove(strays[0]); continue",
        ),
    ),
    "room-not-given-back": without(
        "room that was kept for a task that was not written is given back",
        *(tick, "Tick.unreserve", "self.worker.unreserve(row.task.handler)", "pass"),
    ),
    "started-before-written": Mutant(
        "a task starts here only once it is written (C03)",
        (
            Edit(
                tick,
                "Tick.place",
                "return TaskRow(task, self.worker.worker_id)",
                "self.worker.start(task)\n        return TaskRow(task, self.worker.worker_id)",
            ),
            Edit(tick, "Tick.commit", "self.worker.start(row.task)", "pass"),
        ),
    ),
    # One transaction.
    "no-outbox": Mutant(
        "tasks are written with the decision (C02)", (Swap(world, "Connection.turn", tasks_afterwards),)
    ),
    "two-transactions": Mutant(
        "children, events and tasks are one transaction (C14)", (Swap(world, "Connection.turn", children_apart),)
    ),
    "messages-first": Mutant(
        "messages go in the deciding transaction (C10)", (Swap(world, "Connection.turn", messages_before),)
    ),
    "messages-stay": without(
        "messages go in the deciding transaction (C12)",
        *(tables, "Tables.consume", "self.inbox[row.shard].pop(row.id, None)", "pass"),
    ),
    "claimed-twice": without(
        "a worker claims what nobody has claimed (C08)",
        *(
            tables,
            "Tables.claimable",
            "return self.waiting.values()",
            "return [line for job in self.jobs.values() for line in job.tasks.values()]",
        ),
    ),
    "key-ignored": without(
        "one job per idempotency key (C32)", *(tables, "Tables.submit", "if key in self.keys:", "if False:")
    ),
    # Poison.
    "unreadable-message": without(
        "a message that cannot be read is set aside (C12)",
        *(tick, "Tick.gather", "except ValueError as problem:", "except ZeroDivisionError as problem:"),
    ),
    "unreadable-job": without(
        "a job that cannot be read is given up alone (C13)",
        *(
            tick,
            "Tick.decide_alone",
            "(why := self.unreadable.get(state.job_id)) is not None",
            "(why := None) is not None",
        ),
    ),
    "unwritable-decision": without(
        "a decision that cannot be written harms its job alone (C42)",
        *(
            tick,
            "Tick.move",
            "except DecisionUnwritable as problem:",
            "except ZeroDivisionError as problem:\n        problem.why = ''",
        ),
    ),
    "unknown-handler": without(
        "a handler that nobody has fails the job at once",
        *(tick, "Tick.known_handlers", "if unknown is None:", "if True:"),
    ),
}


def main() -> int:
    wanted = sys.argv[1:] or list(MUTANTS)
    survivors = 0
    for name in wanted:
        killed = seeds_to_kill(MUTANTS[name])
        survivors += killed is None
        seeds, why = killed if killed is not None else ("-", "SURVIVES")
        sys.stdout.write(f"{name:28} {seeds:>4}  {why.splitlines()[0][:100]}\n")
        sys.stdout.flush()
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
