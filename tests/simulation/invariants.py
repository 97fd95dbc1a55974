"""What has to hold when a run is over, told by the tables and by what really happened. Names as in the catalogue.

Nothing here uses the code that decides: outcomes are derived once more from the documents.
"""

from __future__ import annotations

from typing import Any

from dagmaster.contract.decisions import PENDING, NodeState
from dagmaster.contract.messages import Key
from dagmaster.contract.states import JOB_MOVES, JOB_TERMINAL, NODE_MOVES, NODE_TERMINAL
from simulation.tables import Job, Tables
from simulation.watch import Violated, Watch

ENDED_ATTEMPTS = ("FAILED", "TIMED_OUT", "LOST", "RELEASED")
SPENT = ("FAILED", "TIMED_OUT", "LOST")


def check_run(tables: Tables, watch: Watch, acknowledged: dict[str, str]) -> None:
    """Errors: Violated."""
    for key, job_id in acknowledged.items():
        if tables.keys.get(key) != job_id or job_id not in tables.jobs:
            raise Violated(f"I12: {key} was told {job_id}, and that is not its job")
    if len(tables.jobs) != len(acknowledged):
        raise Violated(f"I12: {len(acknowledged)} submissions made {len(tables.jobs)} jobs")
    for job in tables.jobs.values():
        check_job(job, watch)


def check_job(job: Job, watch: Watch) -> None:
    if job.status not in JOB_TERMINAL:
        raise Violated(f"I1: {job.job_id} is {job.status}")
    check_history(job)
    for key, node in job.nodes.items():
        check_attempts(job, key, node)
    if ran_freely(job):
        for each in job.workflow.graph.nodes:
            check_outcome(job, each.ordinal)
        check_status(job)


def ran_freely(job: Job) -> bool:
    """Nobody stopped it, so every outcome follows from what its attempts returned."""
    code = (job.error or {}).get("code")
    return job.status != "CANCELLED" and code not in ("ENGINE_ERROR", "HANDLER_UNKNOWN")


# --- history -----------------------------------------------------------------------------------------------


def check_history(job: Job) -> None:
    """I4: numbers without gaps, legal moves, and a replay that leads to the rows."""
    status = "PENDING"
    present: dict[Key, NodeState] = {}
    for expected, (number, _, event) in enumerate(job.events, start=1):
        if number != expected:
            raise Violated(f"I4: event {expected} of {job.job_id} has the number {number}")
        if event.kind == "job":
            if event.before != status or event.to not in JOB_MOVES[status]:
                raise Violated(f"I4: {job.job_id} moves {event.before} -> {event.to} and was {status}")
            status = event.to
        elif event.kind == "node":
            assert event.key is not None
            assert event.to is not None
            before = present.get(event.key, PENDING)
            same = event.before == event.to and event.to not in NODE_TERMINAL
            if event.before != before.status or (not same and event.to not in NODE_MOVES[before.status]):
                raise Violated(
                    f"I4: {job.job_id} {event.key} moves {event.before} -> {event.to}, it was {before.status}"
                )
            data = event.data or {}
            present[event.key] = NodeState(
                event.to, event.attempt or 0, data.get("spent", 0), data.get("not_before"), error=data.get("error")
            )
    if status != job.status:
        raise Violated(f"I4: by its events {job.job_id} is {status}, the row says {job.status}")
    if {key: replayed(node) for key, node in job.nodes.items()} != present:
        raise Violated(f"I4: by its events {job.job_id} is {present}, the rows say {job.nodes}")


def replayed(node: NodeState) -> NodeState:
    """What of a row is in the events."""
    not_before: Any = node.not_before.isoformat() if node.not_before is not None else None
    return node._replace(started_at=None, finished_at=None, not_before=not_before)


# --- attempts ----------------------------------------------------------------------------------------------


def check_attempts(job: Job, key: Key, node: NodeState) -> None:
    """I2, I6, I7: each attempt ended once, the last one is the one that counts, and retries are as many as allowed."""
    name = f"{job.job_id} {key}"
    outcomes = {attempt: record.outcome for (each, attempt), record in job.attempts.items() if each == key}
    effective = [attempt for attempt, outcome in outcomes.items() if outcome == "COMPLETED"]
    if len(effective) > 1:
        raise Violated(f"I2: {name} has {len(effective)} results")
    runs = job.workflow.graph.nodes[key.ordinal].type in ("task", "fan_in", "conditional") or key.item >= 0
    if node.status == "COMPLETED" and runs and effective != [node.attempt]:
        raise Violated(f"I2: {name} is COMPLETED by attempt {node.attempt}, results are of {effective}")
    if not runs or node.attempt == 0:
        return
    if sorted(outcomes) != list(range(1, node.attempt + 1)):
        raise Violated(f"I7: {name} is at attempt {node.attempt}, ended are {sorted(outcomes)}")
    former = [outcomes[attempt] for attempt in range(1, node.attempt)]
    if any(outcome not in ENDED_ATTEMPTS for outcome in former):
        raise Violated(f"I7: {name} was tried again after {former}")
    check_budget(job, key, node, outcomes, name)


def check_budget(job: Job, key: Key, node: NodeState, outcomes: dict[int, str], name: str) -> None:
    """Only attempts that failed, ran too long or got lost spend the budget, and it is neither exceeded nor left unused."""
    spec = job.workflow.graph.nodes[key.ordinal].task
    assert spec is not None
    spent = sum(outcome in SPENT for outcome in outcomes.values())
    queue_timeout = (node.error or {}).get("code") == "QUEUE_TIMEOUT"
    if node.spent != spent - queue_timeout:
        raise Violated(f"I7: {name} has spent {node.spent}, its attempts ended as {outcomes}")
    before = sum(outcomes[attempt] in SPENT for attempt in range(1, node.attempt))
    if before > spec.retry.retries_max:
        raise Violated(f"I7: {name} was tried again {before} times, allowed are {spec.retry.retries_max}")
    last = outcomes[node.attempt]
    if node.status == "FAILED" and last in SPENT and not queue_timeout:
        retryable = (node.error or {}).get("retryable", True)
        if retryable and spent <= spec.retry.retries_max:
            raise Violated(f"I7: {name} FAILED after {outcomes}, {spec.retry.retries_max} retries are allowed")


# --- outcomes ----------------------------------------------------------------------------------------------


def check_outcome(job: Job, ordinal: int) -> None:
    """Whether the node ran, was skipped, or was skipped for a failure, by what stands before it."""
    node = job.workflow.graph.nodes[ordinal]
    state = job.nodes.get(Key(ordinal), PENDING)
    told = expected(job, node.id)
    error = (state.error or {}).get("code")
    if state.status == "SKIPPED":
        found = "skipped for a failure" if error == "UPSTREAM_FAILED" else "skipped"
    else:
        found = "ran" if state.status in ("COMPLETED", "FAILED", "CANCELLED") else state.status
    if found != told:
        raise Violated(f"C18: {job.job_id} {node.id} {found}, by what stands before it: {told}")
    if node.type == "fan_out" and state.status in ("COMPLETED", "FAILED"):
        check_policy(job, ordinal, state)
    if node.type == "fan_out" and state.status == "COMPLETED":
        check_fan_out(job, ordinal)
    if node.type == "fan_in" and state.status == "COMPLETED":
        check_fan_in(job, ordinal)


def expected(job: Job, name: str) -> str:
    """The truth table of joins, by the document."""
    document = job.workflow.document["nodes"]
    node = document[name]
    waits = node.get("depends_on", {})
    branches = [
        other
        for other, each in document.items()
        if each["type"] == "conditional" and any(name in branch["next"] for branch in each["branches"])
    ]
    needed = [ending(job, other, name) for other in [*waits.get("all_of", []), *branches]]
    either = [ending(job, other, name) for other in waits.get("any_of", [])]
    if "failed" in needed:
        return "skipped for a failure"
    if either and "done" not in either:
        return "skipped for a failure" if "failed" in either else "skipped"
    if needed and not either and set(needed) == {"skipped"}:
        return "skipped"
    return "ran" if "when" not in node else wanted(job, node)


def ending(job: Job, other: str, name: str) -> str:
    """How an edge ended."""
    state = job.nodes.get(Key(job.workflow.graph.by_id[other]), PENDING)
    if state.status == "COMPLETED":
        branches = job.workflow.document["nodes"][other].get("branches")
        if branches is None:
            return "done"
        taken = job.effective[Key(job.workflow.graph.by_id[other])].output["branch"]
        return "done" if name in next(each for each in branches if each["name"] == taken)["next"] else "skipped"
    if state.status == "SKIPPED" and (state.error or {}).get("code") != "UPSTREAM_FAILED":
        return "skipped"
    return "failed"


def wanted(job: Job, node: dict[str, Any]) -> str:
    """Whether a `when` holds."""
    if node["when"] == "inputs.flag":
        return "ran" if job.inputs["flag"] else "skipped"
    source = node["when"].split("nodes.")[1].split(".")[0]
    return "ran" if job.effective[Key(job.workflow.graph.by_id[source])].output["pick"] > 0 else "skipped"


def check_fan_out(job: Job, ordinal: int) -> None:
    """I3: one child for each item, and all of them have ended."""
    children = sorted(key.item for key in job.nodes if key.ordinal == ordinal and key.item >= 0)
    width = len(job.items(ordinal))
    if children != list(range(width)):
        raise Violated(f"I3: {job.job_id}: fan-out {ordinal} has the children {children}, {width} items")
    counted = job.effective[Key(ordinal)].output["fan_out_count"]
    if counted != width:
        raise Violated(f"I3: {job.job_id}: fan-out {ordinal} counted {counted} of {width}")


def check_policy(job: Job, ordinal: int, state: NodeState) -> None:
    """C16: a fan-out fails for its children exactly when more of them failed than its policy bears."""
    policy = job.workflow.document["nodes"][job.workflow.graph.nodes[ordinal].id]["failure_policy"]
    failed = sum(
        key.ordinal == ordinal and key.item >= 0 and each.status == "FAILED" for key, each in job.nodes.items()
    )
    for_children = (state.error or {}).get("code") == "CHILDREN_FAILED"
    if state.status == "FAILED" and not for_children:
        return
    width = len(job.items(ordinal))
    bears: dict[str, float] = {"fail_fast": 0, "collect_errors": width}
    most = bears[policy] if isinstance(policy, str) else {1: 1.0, "40%": 0.4 * width}[policy["threshold"]]
    if (failed > most) != for_children:
        raise Violated(f"C16: {job.job_id}: fan-out {ordinal} is {state.status}, {failed} of {width} children failed")


def check_fan_in(job: Job, ordinal: int) -> None:
    """I3: the fan-in saw every child: the outputs of those that completed, in order, and the errors of the others."""
    node = job.workflow.graph.nodes[ordinal]
    assert node.fan_out is not None
    children = sorted((key, state) for key, state in job.nodes.items() if key.ordinal == node.fan_out and key.item >= 0)
    outputs = [job.effective[key].output for key, state in children if state.status == "COMPLETED"]
    failed = [key.item for key, state in children if state.status != "COMPLETED"]
    output = job.effective[Key(ordinal)].output
    if output["count"] != len(outputs) or [each["index"] for each in output.get("errors", [])] != failed:
        raise Violated(
            f"I3: {job.job_id}: fan-in {node.id} saw {output}, of {len(outputs)} children and {failed} failed"
        )
    results: dict[str, Any] = {
        "collect": ("results", outputs),
        "sum": ("total", sum(each["number"] for each in outputs)),
        "first": ("result", outputs[0] if outputs else None),
        "last": ("result", outputs[-1] if outputs else None),
        "count": ("count", len(outputs)),
    }
    place, value = results[str(node.aggregation)]
    if output[place] != value:
        raise Violated(f"I3: {job.job_id}: fan-in {node.id} made {output[place]}, expected {value}")


def check_status(job: Job) -> None:
    """FAILED if a failure reached the end unhandled or no end was reached for a failure, else COMPLETED."""
    nodes = job.workflow.graph.nodes
    state = {node.ordinal: job.nodes.get(Key(node.ordinal), PENDING) for node in nodes}
    lost = {ordinal for ordinal, each in state.items() if (each.error or {}).get("code") == "UPSTREAM_FAILED"}
    unhandled = any(
        state[node.ordinal].status == "FAILED" and (not node.successors or lost & set(node.successors))
        for node in nodes
    )
    reached = any(state[node.ordinal].status == "COMPLETED" for node in nodes if node.type == "end")
    failed = bool(lost) or any(each.status in ("FAILED", "CANCELLED") for each in state.values())
    told = "FAILED" if unhandled or (failed and not reached) else "COMPLETED"
    if job.status != told:
        raise Violated(f"I1: {job.job_id} is {job.status}, by its nodes {told}")
