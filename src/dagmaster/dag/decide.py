"""`decide(state, messages, now) -> Decision`: the only place that chooses what happens next in a job.

Pure: the clock is an argument, nothing is awaited, nothing outside is read or written, `state` is not
changed. The engine, the simulation and `dagmaster replay` run this same function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from dagmaster.contract.decisions import (
    AttemptRecord,
    Decision,
    Event,
    FanState,
    NewTask,
    NodeChange,
    NodeState,
    Timer,
)
from dagmaster.contract.messages import (
    ATTEMPT_LEASE,
    Cancel,
    Due,
    Failed,
    Key,
    Message,
    Published,
    Report,
    Started,
    Submitted,
)
from dagmaster.contract.states import JOB_TERMINAL
from dagmaster.dag.backoff import delay_seconds, may_retry
from dagmaster.dag.graph import Branch, Node, TaskSpec
from dagmaster.dag.job_scope import JobScope
from dagmaster.dag.readiness import Readiness, readiness
from dagmaster.dag.state import JobState
from dagmaster.errors import (
    Cancelled,
    ChildrenFailed,
    DagmasterError,
    FanOutSourceInvalid,
    FanOutTooWide,
    NoEndReached,
    QueueTimeout,
    TaskTimeout,
    UpstreamFailed,
    WorkerLost,
)

FAN_OUT_WIDTH_MAX = 1_000_000
CHILDREN_LIVE_MAX = 1_000
"""Children of one fan-out that are handed out at a time when it sets no `max_parallel`."""

ACTIVE = ("DISPATCHED", "RUNNING")
WATCHED = {"timeout": ("RUNNING",), "lease": ("DISPATCHED", "RUNNING"), "queue": ("DISPATCHED",), "retry": ("READY",)}
"""In which states of a node each kind of timer still means something."""


def decide(state: JobState, messages: Iterable[Message], now: datetime) -> Decision:
    """What follows from the messages. A message that no longer applies changes nothing but may leave an event."""
    work = _Work(state, now)
    for message in messages:
        work.hear(message)
    work.settle()
    work.finish()
    return work.close()


class _Work:
    """The overlay of one decision over the state it started from."""

    def __init__(self, state: JobState, now: datetime) -> None:
        self.state = state
        self.graph = state.graph
        self.now = now
        self.decision = Decision(state.job_id, state.shard, state.status, state.status)
        self.current: dict[Key, NodeState] = {}
        self.agenda: deque[int] = deque()
        """Static nodes whose predecessors have moved."""
        self.fans_moved: set[int] = set()
        self.notes: list[Event] = []
        self.ended = state.ended
        """Static nodes that are terminal."""
        self.scope = JobScope(state, self.decision.outputs)

    # --- reading the overlay -----------------------------------------------------------------------

    def node(self, key: Key) -> NodeState:
        found = self.current.get(key)
        return found if found is not None else self.state.node(key)

    def fan(self, ordinal: int) -> FanState | None:
        return self.decision.fans.get(ordinal) or self.state.fans.get(ordinal)

    def spec(self, key: Key) -> TaskSpec:
        task = self.graph.nodes[key.ordinal].task
        assert task is not None, f"node {key} runs no task"
        return task

    def node_id(self, key: Key) -> str:
        name = self.graph.nodes[key.ordinal].id if self.graph.nodes else f"node {key.ordinal}"
        return name if key.item < 0 else f"{name}__{key.item}"

    # --- moving ------------------------------------------------------------------------------------

    def move(self, key: Key, **changes: Any) -> None:
        before = self.node(key)
        after = before._replace(**changes)
        if after.terminal and not before.terminal:
            after = after._replace(finished_at=self.now, not_before=None)
            self.tell(key, before, after)
        self.current[key] = after

    def tell(self, key: Key, before: NodeState, after: NodeState) -> None:
        """A node became terminal: those behind it, or its fan-out, must look again."""
        if key.item < 0:
            self.ended += 1
            if self.graph.nodes:
                self.agenda.extend(self.graph.nodes[key.ordinal].successors)
            return
        fan = self.fan(key.ordinal)
        assert fan is not None, f"child {key} without its fan-out"
        done = after.status == "COMPLETED"
        counts = {"completed": fan.completed + 1} if done else {"failed": fan.failed + 1}
        self.decision.fans[key.ordinal] = fan._replace(**counts)
        self.fans_moved.add(key.ordinal)

    def complete(self, key: Key, output: Any) -> None:
        self.decision.outputs[key] = output
        self.move(key, status="COMPLETED", error=None)

    def fail(self, key: Key, error: DagmasterError) -> None:
        """A failure of the engine's own making: permanent."""
        self.move(key, status="FAILED", error=error.as_dict() | {"node": self.node_id(key)})

    def record(self, key: Key, outcome: str, **more: Any) -> None:
        node = self.node(key)
        more.setdefault("started_at", node.started_at)
        more.setdefault("worker", None)
        self.decision.attempts.append(AttemptRecord(key, node.attempt, outcome, finished_at=self.now, **more))

    # --- hearing -----------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        if self.decision.status in JOB_TERMINAL:
            self.supersede(message, "the job had ended")
            return
        match message:
            case Submitted():
                self.begin()
            case Started():
                self.hear_started(message)
            case Report():
                self.hear_report(message)
            case Published():
                self.hear_published(message)
            case Due():
                self.hear_due(message)
            case Cancel():
                self.cancel_all(Cancelled(why=message.reason or None))
                self.end("CANCELLED", actor=message.actor, reason=message.reason)
            case Failed():
                self.cancel_all(Cancelled("The engine gave the job up."))
                self.end("FAILED", message.error)

    def begin(self) -> None:
        if self.state.status == "PENDING" and self.decision.status == "PENDING":
            self.decision.status = "RUNNING"
            self.notes.append(Event("job", before="PENDING", to="RUNNING"))
            self.agenda.extend(node.ordinal for node in self.graph.nodes if not node.all_of and not node.any_of)

    def expects(self, key: Key, attempt: int) -> bool:
        """The fence: only the attempt that the node waits for may move it. No worker runs an attempt 0."""
        node = self.node(key)
        return attempt > 0 and node.attempt == attempt and node.status in ACTIVE

    def supersede(self, message: Message, why: str) -> None:
        if isinstance(message, Report | Started | Published):
            data = {"message": type(message).__name__, "why": why}
            if isinstance(message, Report):
                data |= {"worker": message.worker, "outcome": message.outcome}
            self.notes.append(Event("superseded", message.key, message.attempt, data=data))

    def hear_started(self, message: Started) -> None:
        node = self.node(message.key)
        if node.attempt != message.attempt or node.status != "DISPATCHED":
            if node.attempt != message.attempt:
                self.supersede(message, "another attempt is expected")
            return
        self.move(message.key, status="RUNNING", started_at=message.at)
        due = message.at + timedelta(seconds=message.timeout_seconds)
        self.decision.timers.append(Timer(message.key, message.attempt, "timeout", due))
        self.decision.timers.append(Timer(message.key, message.attempt, "lease", message.at + ATTEMPT_LEASE))

    def hear_report(self, message: Report) -> None:
        key = message.key
        if not self.expects(key, message.attempt):
            self.supersede(message, "another attempt is expected")
            return
        self.decision.dropped.append(key)
        if message.started_at is not None and self.node(key).started_at is None:
            self.current[key] = self.node(key)._replace(started_at=message.started_at)
        if message.outcome == "COMPLETED":
            self.accept(message)
        elif message.outcome == "RELEASED":
            self.record(key, "RELEASED", worker=message.worker, error=message.error)
            self.again(key, 0.0)
        else:
            error = message.error or {}
            self.attempt_failed(key, "FAILED", error, message.worker)

    def accept(self, message: Report) -> None:
        key = message.key
        self.record(key, "COMPLETED", worker=message.worker, output=message.output)
        if message.effects:
            self.decision.effects.append((key, message.attempt, message.effects))
            self.decision.outputs[key] = message.output
            self.move(key, status="WAITING")
        else:
            self.complete(key, message.output)

    def hear_published(self, message: Published) -> None:
        node = self.node(message.key)
        if node.attempt != message.attempt or node.status != "WAITING":
            self.supersede(message, "the node does not wait for it")
        elif message.error is not None:
            self.move(message.key, status="FAILED", error=message.error | {"node": self.node_id(message.key)})
        elif self.graph.nodes[message.key.ordinal].type == "fan_in":
            self.engine_result(message.key, message.output)
        else:
            self.complete(message.key, self.scope.output(message.key))

    def hear_due(self, message: Due) -> None:
        node = self.node(message.key)
        if node.attempt != message.attempt or node.status not in WATCHED[message.kind]:
            return
        spec = self.spec(message.key)
        if message.kind == "retry":
            self.dispatch(message.key)
            return
        self.decision.dropped.append(message.key)
        if message.kind == "queue":
            error = QueueTimeout(timeout_seconds=spec.queue_timeout_seconds).as_dict()
            self.record(message.key, "TIMED_OUT", error=error)
            self.move(message.key, status="FAILED", error=error | {"node": self.node_id(message.key)})
        elif message.kind == "timeout":
            ran = (self.now - (node.started_at or self.now)).total_seconds()
            self.attempt_failed(message.key, "TIMED_OUT", TaskTimeout(timeout_seconds=f"{ran:.0f}").as_dict(), None)
        else:
            self.attempt_failed(message.key, "LOST", WorkerLost().as_dict(), None)

    # --- attempts ----------------------------------------------------------------------------------

    def attempt_failed(self, key: Key, outcome: str, error: dict[str, Any], worker: str | None) -> None:
        error = error | {"node": self.node_id(key)}
        self.record(key, outcome, worker=worker, error=error)
        spent = self.node(key).spent + 1
        retry = self.spec(key).retry
        if may_retry(retry, error, spent):
            self.current[key] = self.node(key)._replace(spent=spent)
            seed = f"{self.state.job_id}/{key.ordinal}/{key.item}/{spent}"
            self.again(key, 0.0 if outcome == "LOST" else delay_seconds(retry, spent, seed=seed))
        else:
            self.move(key, status="FAILED", spent=spent, error=error)

    def again(self, key: Key, seconds: float) -> None:
        """The node is ready for another attempt, at once or after a delay."""
        if seconds <= 0:
            self.move(key, status="READY", started_at=None, not_before=None)
            self.dispatch(key)
            return
        due = self.now + timedelta(seconds=seconds)
        self.move(key, status="READY", started_at=None, not_before=due)
        self.decision.timers.append(Timer(key, self.node(key).attempt, "retry", due))

    def dispatch(self, key: Key) -> None:
        """Resolve the params and hand the next attempt out; an expression that fails is permanent."""
        spec = self.spec(key)
        try:
            params = spec.params(self.scope.for_item(key))
        except DagmasterError as error:
            self.fail(key, error)
            return
        attempt = self.node(key).attempt + 1
        self.move(key, status="DISPATCHED", attempt=attempt, not_before=None, started_at=None)
        self.decision.tasks.append(
            NewTask(
                key,
                attempt,
                self.node_id(key),
                spec.handler,
                spec.queue,
                params,
                spec.timeout_seconds,
                spec.queue_timeout_seconds,
            )
        )
        if spec.queue_timeout_seconds is not None:
            due = self.now + timedelta(seconds=spec.queue_timeout_seconds)
            self.decision.timers.append(Timer(key, attempt, "queue", due))

    # --- the graph ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Follow every consequence to a fixpoint: start, end, conditional and fan nodes cost no extra tick."""
        while self.agenda or self.fans_moved:
            while self.agenda:
                self.look_at(self.graph.nodes[self.agenda.popleft()])
            for ordinal in sorted(self.fans_moved):
                self.fans_moved.discard(ordinal)
                self.advance_fan(self.graph.nodes[ordinal])

    def look_at(self, node: Node) -> None:
        key = Key(node.ordinal)
        if self.node(key).status != "PENDING" or self.decision.status in JOB_TERMINAL:
            return
        ready, upstream = readiness(node, self.graph, self.node, self.chosen)
        if ready is Readiness.SKIP:
            self.move(key, status="SKIPPED")
        elif ready is Readiness.SKIP_FAILED:
            error = UpstreamFailed(upstream=self.graph.nodes[upstream].id).as_dict()
            self.move(key, status="SKIPPED", error=error | {"node": node.id})
        elif ready is Readiness.RUN:
            self.start(node, key)

    def chosen(self, ordinal: int) -> tuple[int, ...]:
        """The nodes that a completed conditional leads to."""
        name = self.scope.output(Key(ordinal))["branch"]
        return next(branch.targets for branch in self.graph.nodes[ordinal].branches if branch.name == name)

    def start(self, node: Node, key: Key) -> None:
        try:
            if node.when is not None and not node.when(self.scope):
                self.move(key, status="SKIPPED")
                return
            match node.type:
                case "task":
                    self.dispatch(key)
                case "conditional":
                    self.engine_result(key, {"branch": self.choose(node).name})
                case "fan_out":
                    self.open_fan(node, key)
                case "fan_in":
                    self.gather(node, key)
                case _:
                    self.move(key, status="COMPLETED")
        except DagmasterError as error:
            self.fail(key, error)

    def engine_result(self, key: Key, output: Any) -> None:
        """A node that the engine itself runs has attempt 0, kept like any other so that it can be read back."""
        self.record(key, "COMPLETED", output=output)
        self.complete(key, output)

    def choose(self, node: Node) -> Branch:
        default = next((branch for branch in node.branches if branch.test is None), None)
        for branch in node.branches:
            if branch.test is not None and branch.test(self.scope):
                return branch
        assert default is not None, f"conditional {node.id} has no default"
        return default

    # --- fan-out and fan-in ------------------------------------------------------------------------

    def open_fan(self, node: Node, key: Key) -> None:
        items = self.scope.fan_items(node)
        if not isinstance(items, list):
            raise FanOutSourceInvalid(kind=type(items).__name__)
        if len(items) > FAN_OUT_WIDTH_MAX:
            raise FanOutTooWide(width=len(items), width_max=FAN_OUT_WIDTH_MAX)
        self.decision.fans[node.ordinal] = FanState(len(items))
        self.move(key, status="RUNNING", started_at=self.now)
        self.fans_moved.add(node.ordinal)

    def advance_fan(self, node: Node) -> None:
        """Hand out more children, or end the fan-out when all have ended or too many have failed."""
        key = Key(node.ordinal)
        fan = self.fan(node.ordinal)
        if fan is None or self.node(key).status != "RUNNING":
            return
        if not self.bears(node, fan):
            self.stop_children(node)
            self.fail(key, ChildrenFailed(failed=fan.failed, count=fan.width, fan_out=node.id))
        elif fan.completed + fan.failed == fan.width:
            self.engine_result(
                key,
                {
                    "fan_out_count": fan.width,
                    "child_node_ids": f"{node.id}__0..{fan.width - 1}"
                    if fan.width > 100
                    else [f"{node.id}__{i}" for i in range(fan.width)],
                },
            )
        else:
            self.hand_out(node, fan)

    def bears(self, node: Node, fan: FanState) -> bool:
        policy = node.failure_policy
        if fan.failed == 0 or policy.mode == "collect_errors":
            return True
        if policy.mode == "fail_fast":
            return False
        if policy.count_max is not None:
            return fan.failed <= policy.count_max
        return fan.failed <= (policy.share_max or 0.0) * fan.width

    def hand_out(self, node: Node, fan: FanState) -> None:
        room = (node.max_parallel or CHILDREN_LIVE_MAX) - fan.live
        upto = min(fan.width, fan.cursor + max(0, room))
        if upto == fan.cursor:
            return
        self.decision.fans[node.ordinal] = fan._replace(cursor=upto)
        for index in range(fan.cursor, upto):
            self.dispatch(Key(node.ordinal, index))

    def stop_children(self, node: Node) -> None:
        error = Cancelled("A sibling failed.").as_dict()
        for key in self.living_children(node.ordinal):
            self.cancel(key, error)

    def living_children(self, ordinal: int | None = None) -> list[Key]:
        """Children that have not ended, of one fan-out or of all, in order."""
        known = {key for key in self.state.nodes if key.item >= 0} | {key for key in self.current if key.item >= 0}
        return sorted(key for key in known if ordinal in (None, key.ordinal) and not self.node(key).terminal)

    def gather(self, node: Node, key: Key) -> None:
        """Have the children's outputs put together: they are in the store, so the publisher does it."""
        assert node.fan_out is not None, f"fan-in {node.id} gathers nothing"
        body = {"ordinal": node.fan_out, "aggregation": node.aggregation, "node": node.id}
        self.decision.effects.append((key, 0, ({"kind": "gather", "body": body},)))
        self.move(key, status="WAITING", started_at=self.now)

    # --- ending ------------------------------------------------------------------------------------

    def cancel(self, key: Key, error: dict[str, Any]) -> None:
        node = self.node(key)
        if node.terminal:
            return
        if node.status == "WAITING":
            self.decision.revoked.append(key)
            self.decision.effects = [effect for effect in self.decision.effects if effect[0] != key]
        elif node.status in ACTIVE and node.attempt > 0:  # nodes that the engine itself runs have attempt 0
            self.decision.dropped.append(key)
            self.record(key, "CANCELLED", error=error)
        self.move(key, status="CANCELLED", error=error | {"node": self.node_id(key)})

    def cancel_all(self, error: DagmasterError) -> None:
        """Every node that has not ended, also those of a job whose graph cannot be read."""
        known = {key for key in self.state.nodes if key.item < 0} | {Key(node.ordinal) for node in self.graph.nodes}
        for key in [*self.living_children(), *sorted(known)]:
            self.cancel(key, error.as_dict())
        self.agenda.clear()
        self.fans_moved.clear()

    def end(self, status: str, error: dict[str, Any] | None = None, **more: Any) -> None:
        data = more if error is None else {"error": error} | more
        self.notes.append(Event("job", before=self.decision.status, to=status, data=data or None))
        self.decision.status = status
        self.decision.error = error

    def finish(self) -> None:
        """End the job once every node is terminal."""
        if self.decision.status != "RUNNING" or (not self.current and self.state.status == "RUNNING"):
            return
        if self.ended < len(self.graph.nodes):
            return
        nodes = [(node, self.node(Key(node.ordinal))) for node in self.graph.nodes]
        unhandled = next((state for node, state in nodes if state.status == "FAILED" and not self.handled(node)), None)
        if unhandled is not None:
            self.end("FAILED", unhandled.error)
            return
        ends = [state for node, state in nodes if node.type == "end"]
        failed = any(state.failed for _, state in nodes)
        if any(state.status == "COMPLETED" for state in ends) or not failed:
            self.end("COMPLETED")
        else:
            self.end("FAILED", NoEndReached().as_dict())

    def handled(self, node: Node) -> bool:
        """A failure is handled when nodes behind it exist and none of them was lost to it."""
        behind = [self.node(Key(ordinal)) for ordinal in node.successors]
        return bool(behind) and not any(state.failed and state.status == "SKIPPED" for state in behind)

    def close(self) -> Decision:
        """Net moves and their events; the job's own event comes last when it ends."""
        for key, after in self.current.items():
            before = self.state.node(key)
            if after == before:
                continue
            self.decision.nodes[key] = NodeChange(before, after)
            self.decision.events.append(node_event(key, before, after))
        self.decision.events.extend(self.notes)
        live = {key for key, change in self.decision.nodes.items() if change.state.status == "DISPATCHED"}
        self.decision.tasks = [task for task in self.decision.tasks if task.key in live]
        self.decision.timers = [timer for timer in self.decision.timers if self.still_waits(timer)]
        return self.decision

    def still_waits(self, timer: Timer) -> bool:
        """The attempt that the timer watches has not ended within this very decision."""
        node = self.node(timer.key)
        return node.attempt == timer.attempt and node.status in WATCHED[timer.kind]


def node_event(key: Key, before: NodeState, after: NodeState) -> Event:
    """The event of a net move; it holds all that a replay needs."""
    data: dict[str, Any] = {}
    if after.spent:
        data["spent"] = after.spent
    if after.not_before is not None:
        data["not_before"] = after.not_before.isoformat()
    if after.error is not None:
        data["error"] = after.error
    return Event("node", key, after.attempt or None, before.status, after.status, data or None)
