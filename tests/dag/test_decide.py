"""Decisions: what follows from what, checked without clock, database or worker."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dag.graphs import Job, Sketch, Value, chain, constant, work
from dagmaster.contract.decisions import JobSnapshot
from dagmaster.contract.messages import Cancel, Due, Failed, Key, Published, Report, Started
from dagmaster.contract.states import JOB_MOVES, JOB_TERMINAL, NODE_MOVES, NODE_TERMINAL
from dagmaster.dag.graph import Branch, FailurePolicy
from dagmaster.dag.restore import restore


def test_start_completes_and_the_first_task_is_dispatched_in_one_decision() -> None:
    job = Job(chain("a", "b")).begin()
    assert job.statuses() == {"start": "COMPLETED", "a": "DISPATCHED", "b": "PENDING", "end": "PENDING"}
    assert [task.node_id for task in job.decisions[-1].tasks] == ["a"]


def test_chain_runs_to_its_end() -> None:
    job = Job(chain("a", "b")).begin()
    job.completed("a", {"x": 1})
    job.completed("b")
    assert job.state.status == "COMPLETED"
    assert set(job.statuses().values()) == {"COMPLETED"}


def test_params_see_inputs_and_outputs() -> None:
    params = Value(lambda scope: {"sum": scope.inputs()["n"] + scope.node_output("a")["x"]})
    sketch = Sketch().add("start", "start").add("a", after="start").add("b", after="a", task=work(params=params))
    job = Job(sketch.add("end", "end", after="b").graph(), {"n": 2}).begin()
    decision = job.completed("a", {"x": 40})
    assert decision.tasks[0].params == {"sum": 42}


def test_report_of_another_attempt_is_superseded() -> None:
    job = Job(chain("a", retries=2)).begin()
    job.failed("a")
    job.wait(5).hear(Due(job.key("a"), 1, "retry"))
    decision = job.completed("a", {"late": True}, attempt=1)
    assert job.status("a") == "DISPATCHED"
    assert [event.kind for event in decision.events] == ["superseded"]
    assert not decision.attempts
    assert not decision.nodes


def test_duplicate_report_changes_nothing() -> None:
    job = Job(chain("a", "b")).begin()
    job.completed("a")
    decision = job.completed("a", attempt=1)
    assert not decision.nodes
    assert not decision.attempts


def test_started_after_completed_changes_nothing() -> None:
    job = Job(chain("a", "b")).begin()
    job.completed("a")
    assert not job.hear(Started(job.key("a"), 1, "w", job.now, 60.0)).nodes


def test_retry_waits_for_its_delay() -> None:
    job = Job(chain("a", retries=1)).begin()
    decision = job.failed("a")
    assert job.status("a") == "READY"
    assert [(timer.kind, (timer.at - job.now).total_seconds()) for timer in decision.timers] == [("retry", 5.0)]
    job.wait(5).hear(Due(job.key("a"), 1, "retry"))
    assert (job.status("a"), job.attempt("a")) == ("DISPATCHED", 2)


def test_five_retries_are_six_attempts() -> None:
    job = Job(chain("a", retries=5)).begin()
    for number in range(1, 7):
        assert job.attempt("a") == number
        job.failed("a")
        job.hear(Due(job.key("a"), number, "retry"))
    assert job.status("a") == "FAILED"
    assert job.state.status == "FAILED"


def test_error_marked_not_retryable_never_retries() -> None:
    job = Job(chain("a", retries=5)).begin()
    job.failed("a", retryable=False)
    assert job.state.status == "FAILED"


def test_failure_skips_what_needs_it_and_ends_the_job() -> None:
    job = Job(chain("a", "b", "c")).begin()
    decision = job.failed("a")
    assert job.statuses() == {"start": "COMPLETED", "a": "FAILED", "b": "SKIPPED", "c": "SKIPPED", "end": "SKIPPED"}
    assert job.state.status == "FAILED"
    assert decision.error is not None
    assert decision.error["code"] == "BROKEN"
    skipped = job.state.node(job.key("c")).error
    assert skipped is not None
    assert skipped["code"] == "UPSTREAM_FAILED"


def test_job_is_failed_only_when_nothing_runs_any_more() -> None:
    sketch = Sketch().add("start", "start").add("a", after="start").add("b", after="start")
    job = Job(sketch.add("end", "end", after="a b").graph()).begin()
    job.failed("a")
    assert job.state.status == "RUNNING"
    job.completed("b")
    assert job.state.status == "FAILED"


def test_released_attempt_spends_no_retry() -> None:
    job = Job(chain("a")).begin()
    job.hear(Report(job.key("a"), 1, "w", "RELEASED"))
    assert (job.status("a"), job.attempt("a"), job.state.node(job.key("a")).spent) == ("DISPATCHED", 2, 0)


def test_lost_worker_is_retried_at_once() -> None:
    job = Job(chain("a", retries=1)).begin()
    job.started("a")
    job.hear(Due(job.key("a"), 1, "lease"))
    assert (job.status("a"), job.attempt("a"), job.state.node(job.key("a")).spent) == ("DISPATCHED", 2, 1)


def test_waiting_in_the_queue_costs_no_retry_and_never_times_out_by_itself() -> None:
    graph = Sketch().add("start", "start").add("a", after="start", task=work(3, timeout_seconds=10)).graph()
    job = Job(graph).begin()
    assert not job.decisions[-1].timers
    job.wait(10_000).hear(Due(job.key("a"), 1, "timeout"))
    assert (job.status("a"), job.attempt("a")) == ("DISPATCHED", 1)


def test_timeout_counts_from_the_claim() -> None:
    graph = Sketch().add("start", "start").add("a", after="start", task=work(1, timeout_seconds=10)).graph()
    job = Job(graph).begin().wait(100)
    decision = job.started("a", timeout_seconds=10)
    clocks = {timer.kind: (timer.at - job.now).total_seconds() for timer in decision.timers}
    assert clocks == {"timeout": 10, "lease": 30}
    decision = job.wait(10).hear(Due(job.key("a"), 1, "timeout"))
    assert [record.outcome for record in decision.attempts] == ["TIMED_OUT"]
    assert job.key("a") in decision.dropped


def test_queue_timeout_fails_the_node() -> None:
    graph = Sketch().add("start", "start").add("a", after="start", task=work(3, queue_timeout_seconds=60)).graph()
    job = Job(graph).begin()
    job.wait(60).hear(Due(job.key("a"), 1, "queue"))
    assert job.state.status == "FAILED"
    error = job.state.node(job.key("a")).error
    assert error is not None
    assert error["code"] == "QUEUE_TIMEOUT"


def test_effects_hold_the_node_until_they_are_published() -> None:
    job = Job(chain("a", "b")).begin()
    decision = job.completed("a", {"x": 1}, effects=({"kind": "artifact", "body": {}},))
    assert job.status("a") == "WAITING"
    assert decision.effects == [(job.key("a"), 1, ({"kind": "artifact", "body": {}},))]
    assert job.status("b") == "PENDING"
    job.hear(Published(job.key("a"), 1))
    assert (job.status("a"), job.status("b")) == ("COMPLETED", "DISPATCHED")


def test_failed_publication_fails_the_node() -> None:
    job = Job(chain("a")).begin()
    job.completed("a", effects=({"kind": "artifact", "body": {}},))
    job.hear(Published(job.key("a"), 1, {"code": "STORAGE_ERROR", "message": "gone", "retryable": True}))
    assert job.state.status == "FAILED"


def test_cancel_ends_the_job_at_once_and_drops_its_tasks() -> None:
    job = Job(chain("a", "b")).begin()
    job.started("a")
    decision = job.hear(Cancel(actor="me", reason="why not"))
    assert job.state.status == "CANCELLED"
    assert decision.dropped == [job.key("a")]
    assert set(job.statuses().values()) == {"COMPLETED", "CANCELLED"}
    late = job.completed("a", attempt=1)
    assert job.state.status == "CANCELLED"
    assert not late.nodes


def test_expression_that_fails_is_permanent() -> None:
    def boom(scope: Any) -> Any:
        from dagmaster.errors import ExpressionFailed

        raise ExpressionFailed(expression="x", problem="no")

    graph = Sketch().add("start", "start").add("a", after="start", task=work(5, params=Value(boom))).graph()
    job = Job(graph).begin()
    assert job.status("a") == "FAILED"
    assert job.state.status == "FAILED"


def test_engine_failure_ends_the_job_with_its_error() -> None:
    job = Job(chain("a")).begin()
    decision = job.hear(Failed({"code": "ENGINE_ERROR", "message": "boom"}))
    assert job.state.status == "FAILED"
    assert decision.error == {"code": "ENGINE_ERROR", "message": "boom"}


# --- conditionals ----------------------------------------------------------------------------------


def route(chosen: str) -> Job:
    branches = tuple(
        Branch(name, constant(name == chosen) if name != "other" else None, (ordinal,))
        for ordinal, name in ((2, "left"), (3, "right"), (4, "other"))
    )
    sketch = Sketch().add("start", "start").add("route", "conditional", after="start", branches=branches)
    for name in ("left", "right", "other"):
        sketch.add(name, after="route")
    return Job(sketch.add("end", "end", any_of="left right other").graph()).begin()


@pytest.mark.parametrize("chosen", ["left", "right", "other"])
def test_conditional_skips_the_branches_not_taken(chosen: str) -> None:
    job = route(chosen)
    for name in ("left", "right", "other"):
        assert job.status(name) == ("DISPATCHED" if name == chosen else "SKIPPED")
    job.completed(chosen)
    assert job.state.status == "COMPLETED"


def test_any_of_runs_once_at_the_first_completion() -> None:
    sketch = Sketch().add("start", "start").add("a", after="start").add("b", after="start").add("c", any_of="a b")
    job = Job(sketch.add("end", "end", after="c").graph()).begin()
    assert [task.node_id for task in job.completed("a").tasks] == ["c"]
    assert not job.completed("b").tasks


def test_any_of_bears_a_failure_while_another_completes() -> None:
    sketch = Sketch().add("start", "start").add("a", after="start").add("b", after="start").add("c", any_of="a b")
    job = Job(sketch.add("end", "end", after="c").graph()).begin()
    job.failed("a")
    assert job.status("c") == "PENDING"
    job.completed("b")
    job.completed("c")
    assert job.state.status == "COMPLETED"


def test_any_of_with_nothing_left_is_skipped_for_the_failure() -> None:
    sketch = Sketch().add("start", "start").add("a", after="start").add("b", after="start").add("c", any_of="a b")
    job = Job(sketch.add("end", "end", after="c").graph()).begin()
    job.failed("a")
    job.failed("b")
    assert (job.status("c"), job.state.status) == ("SKIPPED", "FAILED")


# --- fan-out and fan-in ----------------------------------------------------------------------------


def fan(count: int, mode: str = "collect", *, max_parallel: int | None = None) -> Job:
    sketch = Sketch().add("start", "start")
    sketch.add(
        "split",
        "fan_out",
        after="start",
        source=constant(list(range(count))),
        task=work(params=Value(lambda scope: {"n": scope.item(), "i": scope.index()})),
        max_parallel=max_parallel,
        fan_in=2,
    )
    sketch.add("merge", "fan_in", after="split", fan_out=1, aggregation=mode)
    return Job(sketch.add("end", "end", after="merge").graph()).begin()


def test_fan_out_hands_out_one_child_per_item() -> None:
    job = fan(3)
    assert [(task.node_id, task.params) for task in job.decisions[-1].tasks] == [
        (f"split__{index}", {"n": index, "i": index}) for index in range(3)
    ]


def test_fan_in_gathers_in_the_order_of_the_items() -> None:
    job = fan(3)
    for index in (2, 0, 1):
        job.completed(f"split__{index}", {"n": index})
    assert job.state.outputs[job.key("merge")] == {"results": [{"n": 0}, {"n": 1}, {"n": 2}], "count": 3}
    assert job.state.status == "COMPLETED"


def test_empty_fan_out_is_legal() -> None:
    job = fan(0)
    assert job.state.status == "COMPLETED"
    assert job.state.outputs[job.key("merge")] == {"results": [], "count": 0}


@pytest.mark.parametrize("count", [1, 5, 7])
def test_no_more_children_live_than_max_parallel(count: int) -> None:
    job = fan(count, max_parallel=2)
    live = {f"split__{index}" for index in range(min(2, count))}
    while live:
        assert len(live) <= 2
        name = live.pop()
        live |= {task.node_id for task in job.completed(name, {"done": name}).tasks}
    assert job.state.status == "COMPLETED"
    assert job.state.outputs[job.key("merge")]["count"] == count


def test_fail_fast_stops_the_siblings() -> None:
    job = fan(3)
    decision = job.failed("split__1")
    assert job.state.status == "FAILED"
    assert [job.status(f"split__{index}") for index in range(3)] == ["CANCELLED", "FAILED", "CANCELLED"]
    assert set(decision.dropped) == {Key(1, 0), Key(1, 1), Key(1, 2)}


def test_collect_errors_completes_with_the_errors() -> None:
    job = fan_with("collect_errors")
    job.failed("split__1")
    job.completed("split__0", {"n": 0})
    job.completed("split__2", {"n": 2})
    output = job.state.outputs[job.key("merge")]
    assert output["count"] == 2
    assert [entry["index"] for entry in output["errors"]] == [1]
    assert job.state.status == "COMPLETED"


def fan_with(policy: str, **bounds: Any) -> Job:
    sketch = Sketch().add("start", "start")
    sketch.add(
        "split",
        "fan_out",
        after="start",
        source=constant([0, 1, 2]),
        fan_in=2,
        failure_policy=FailurePolicy(policy, **bounds),  # type: ignore[arg-type]  # tests use the words
    )
    sketch.add("merge", "fan_in", after="split", fan_out=1, aggregation="collect")
    return Job(sketch.add("end", "end", after="merge").graph()).begin()


def test_threshold_bears_so_many_and_no_more() -> None:
    job = fan_with("threshold", count_max=1)
    job.failed("split__0")
    assert job.state.status == "RUNNING"
    job.failed("split__1")
    assert job.state.status == "FAILED"


def test_source_that_is_no_list_fails_the_node() -> None:
    sketch = Sketch().add("start", "start").add("split", "fan_out", after="start", source=constant({"a": 1}))
    job = Job(sketch.graph()).begin()
    error = job.state.node(job.key("split")).error
    assert error is not None
    assert error["code"] == "FAN_OUT_SOURCE_INVALID"


@pytest.mark.parametrize(
    ("mode", "outputs", "expected"),
    [
        ("concat", [{"rows": [1, 2]}, {"rows": [3]}], {"results": [1, 2, 3], "count": 2}),
        ("sum", [{"n": 1}, {"n": 2.5}], {"total": 3.5, "count": 2}),
        ("first", [{"n": 1}, {"n": 2}], {"result": {"n": 1}, "count": 2}),
        ("last", [{"n": 1}, {"n": 2}], {"result": {"n": 2}, "count": 2}),
        ("count", [{"n": 1}, {"n": 2}], {"count": 2}),
        ("min", [{"n": 1}, {"n": 2}], {"result": 1, "count": 2}),
        ("max", [{"n": 1}, {"n": 2}], {"result": 2, "count": 2}),
    ],
)
def test_aggregations(mode: str, outputs: list[Any], expected: dict[str, Any]) -> None:
    job = fan(len(outputs), mode)
    for index, output in enumerate(outputs):
        job.completed(f"split__{index}", output)
    assert job.state.outputs[job.key("merge")] == expected


def test_sum_of_texts_fails_the_fan_in() -> None:
    job = fan(1, "sum")
    job.completed("split__0", {"n": "one"})
    error = job.state.node(job.key("merge")).error
    assert error is not None
    assert error["code"] == "AGGREGATION_FAILED"


# --- whatever happens --------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    """Random graphs of tasks, joins and conditionals, with random retries."""
    size = draw(st.integers(1, 7))
    sketch = Sketch().add("start", "start")
    names = ["start"]
    for number in range(size):
        name = f"n{number}"
        before = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        either = draw(st.booleans())
        retries = draw(st.integers(0, 2))
        sketch.add(name, **{"any_of" if either else "after": " ".join(before)}, task=work(retries))
        names.append(name)
    leaves = draw(st.lists(st.sampled_from(names[1:]), min_size=1, max_size=3, unique=True))
    return sketch.add("end", "end", any_of=" ".join(leaves)).graph()


@settings(max_examples=300, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_every_job_ends_and_every_move_is_legal(graph: Any, seed: int) -> None:
    """Random reports, duplicates, stale attempts, losses and cancels: the job ends, only by legal moves, with replayable events."""
    rng = random.Random(seed)
    job = Job(graph).begin()
    for _ in range(400):
        if job.state.status in JOB_TERMINAL:
            break
        live = [node.id for node in graph.nodes if job.status(node.id) in ("DISPATCHED", "RUNNING", "READY", "WAITING")]
        assert live, f"nothing can move any more: {job.statuses()}"
        act(job, rng.choice(live), rng)
    assert job.state.status in JOB_TERMINAL
    check_history(job)


def act(job: Job, name: str, rng: random.Random) -> None:
    key, attempt, status = job.key(name), job.attempt(name), job.status(name)
    if status == "READY":
        job.wait(10).hear(Due(key, attempt, "retry"))
    elif status == "WAITING":
        job.hear(Published(key, attempt))
    else:
        acts: list[Callable[[], object]] = [
            lambda: job.started(name),
            lambda: job.completed(name, {"ok": True}),
            lambda: job.completed(name, effects=({"kind": "artifact", "body": {}},)),
            lambda: job.failed(name),
            lambda: job.completed(name, attempt=attempt - 1),
            lambda: job.completed(name, attempt=attempt + 1),
            lambda: job.hear(Due(key, attempt, "lease")),
            lambda: job.hear(Report(key, attempt, "w", "RELEASED")),
            lambda: job.hear(Cancel()) if rng.random() < 0.05 else None,
        ]
        rng.choice(acts)()


def check_history(job: Job) -> None:
    """Each event moves legally from where the last one left, and together they lead to the present state."""
    present: dict[Any, str] = {}
    for event in job.history:
        if event.kind == "node":
            assert present.get(event.key, "PENDING") == event.before
            if event.before != event.to:
                assert event.to in NODE_MOVES[event.before]
            present[event.key] = event.to
        if event.kind == "job":
            assert event.to in JOB_MOVES[event.before]
    assert present == {key: node.status for key, node in job.state.nodes.items()}
    assert all(status in NODE_TERMINAL for status in present.values())
    accepted = [
        record.key for decision in job.decisions for record in decision.attempts if record.outcome == "COMPLETED"
    ]
    assert len(accepted) == len(set(accepted))


def test_a_fan_out_that_never_opened_is_restored_without_its_source() -> None:
    """A cancelled or skipped fan-out has no items; its source may read what does not exist."""
    unreadable = Value(lambda scope: scope.node_output("a")["items"])
    sketch = (
        Sketch().add("start", "start").add("a", after="start").add("split", "fan_out", after="a", source=unreadable)
    )
    job = Job(sketch.graph()).begin()
    job.hear(Cancel())
    snapshot = JobSnapshot("job", 0, "0" * 64, job.state.status, 0, {}, job.state.seq, job.state.nodes)
    assert restore(snapshot, job.state.graph).status == "CANCELLED"
