"""The faults that broke the predecessor, one test each: none of them may break this engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagmaster.db import jobs as job_store
from dagmaster.db.notify import INBOX, notify
from dagmaster.errors import IdempotencyConflict
from engine.conftest import CHAIN, Bench
from waiting import eventually_async

ONCE = """
workflow_id: once
name: Once
version: 1
inputs: {message: {type: string, default: hello}}
nodes:
  start: {type: start, next: a}
  a: {handler: echo, params: {said: "{{ inputs.message }}"}, next: b}
  b: {handler: echo, params: {said: "{{ nodes.a.output.said }}"}, next: end}
  end: {type: end}
"""
FAN = """
workflow_id: fan
name: Fan
version: 1
inputs: {items: {type: array, required: true}}
nodes:
  start: {type: start, next: split}
  split: {type: fan_out, source: "{{ inputs.items }}", task: {handler: echo, params: {item: "{{ item }}"}}, next: merge}
  merge: {type: fan_in, aggregation: collect, next: end}
  end: {type: end}
"""
FAILURE: dict[str, Any] = {
    "outcome": "FAILED",
    "output": None,
    "error": {"code": "BROKEN", "message": "it broke", "retryable": True},
}
STARTED = (
    "INSERT INTO dagmaster.message (shard, job_id, kind, body) VALUES (%s, %s, 'started', json_build_object("
    "'ordinal', %s::int, 'item', -1, 'attempt', %s::int, 'worker', 'late', 'at', now(), 'timeout_seconds', 60)) RETURNING 1"
)


async def statuses(bench: Bench, job_id: str) -> dict[str, str]:
    return {name: node.status for name, node in (await bench.job(job_id)).nodes.items()}


async def complete(bench: Bench, *job_ids: str) -> None:
    """Let a worker do whatever comes until the jobs are COMPLETED."""
    stop = asyncio.Event()
    working = asyncio.create_task(bench.worker.work(until=stop.is_set))
    for job_id in job_ids:
        await bench.until(job_id, "COMPLETED")
    stop.set()
    await working


async def cancel(bench: Bench, job_id: str) -> None:
    async with bench.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO dagmaster.message (shard, job_id, kind, body)"
            " SELECT shard, job_id, 'cancel', '{}' FROM dagmaster.job WHERE job_id = %s",
            (job_id,),
        )
        await notify(conn, [INBOX])


async def die_once(bench: Bench, table: str, event: str, what: str = "OLD") -> None:
    """The server process of whoever does this first dies in the middle of its transaction."""
    for statement in (
        "CREATE SEQUENCE deaths",
        f"""CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('deaths') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); END IF;
            RETURN {what}; END $$""",
        f"CREATE TRIGGER die BEFORE {event} ON dagmaster.{table} FOR EACH ROW EXECUTE FUNCTION die()",
    ):
        async with bench.pool.connection() as conn:
            await conn.execute(statement.encode())


async def deaths(bench: Bench) -> int:
    (row,) = await bench.query("SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM deaths")
    return int(row.n)


async def test_x01_failure_in_the_middle_ends_the_job(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit(ONCE)
        (task,) = await bench.worker.claim()
        await bench.worker.report(
            task, **FAILURE | {"error": {"code": "BROKEN", "message": "it broke", "retryable": False}}
        )
        await bench.until(job_id, "FAILED")
        assert await statuses(bench, job_id) == {
            "start": "COMPLETED",
            "a": "FAILED",
            "b": "SKIPPED",
            "end": "SKIPPED",
        }


async def test_x02_job_without_rows_of_nodes_is_not_complete(bench: Bench) -> None:
    """Nodes have no rows until they move: that nobody wrote any is no end."""
    job_id = await bench.submit(ONCE)
    assert not await bench.query("SELECT 1 FROM dagmaster.node")
    async with bench.engine():
        (task,) = await bench.worker.claim()
        assert task.node_id == "a"
        assert (await bench.job(job_id)).status == "RUNNING"
        await bench.worker.report(task)
        await complete(bench, job_id)
    assert set((await statuses(bench, job_id)).values()) == {"COMPLETED"}


async def test_x02_submission_that_dies_in_the_middle_leaves_nothing(bench: Bench) -> None:
    await die_once(bench, "message", "INSERT", "NEW")
    with pytest.raises(Exception, match=r"terminat|closed|lost"):
        await bench.submit(ONCE, idempotency_key="k")
    assert await deaths(bench) == 1
    for table in ("job", "message"):
        assert not await bench.query(f"SELECT 1 FROM dagmaster.{table}"), table
    async with bench.engine():
        await complete(bench, await bench.submit(ONCE, idempotency_key="k"))


async def test_x03_late_result_of_a_former_attempt_changes_nothing(bench: Bench) -> None:
    slow = ONCE.replace(
        "next: b}", "timeout_seconds: 1, retry: {max_attempts: 2, backoff: fixed, initial_delay_seconds: 0}, next: b}"
    )
    async with bench.engine():
        job_id = await bench.submit(slow)
        (first,) = await bench.worker.claim()
        (second,) = await bench.worker.claim()
        assert (first.attempt, second.attempt) == (1, 2)
        await bench.worker.report(first, output={"said": "stale"})
        await bench.worker.report(second, output={"said": "fresh"})
        (last,) = await bench.worker.claim()
        assert last.params == {"said": "fresh"}
        await bench.worker.report(last)
        job = await bench.until(job_id, "COMPLETED")
    assert job.nodes["a"].output == {"said": "fresh"}
    assert job.nodes["a"].attempt == 2


async def test_x04_duplicates_after_the_end_block_nobody(bench: Bench) -> None:
    async with bench.engine():
        ended = await bench.submit(ONCE)
        tasks = []
        for _ in "ab":
            (task,) = await bench.worker.claim()
            tasks.append(task)
            await bench.worker.report(task)
        await bench.until(ended, "COMPLETED")
        before = await bench.query("SELECT * FROM dagmaster.node ORDER BY ordinal")
        for _ in range(25):
            for task in tasks:
                await bench.worker.report(task, output={"said": "again"})
        await complete(bench, await bench.submit(ONCE))

        async def read() -> bool:
            return not await bench.query("SELECT 1 FROM dagmaster.message")

        await eventually_async(read)
        again = await bench.query("SELECT * FROM dagmaster.node WHERE job_id = %s ORDER BY ordinal", ended)
        assert again == before


async def test_x05_crash_while_children_are_made_repeats_nothing(bench: Bench) -> None:
    await die_once(bench, "task", "INSERT", "NEW")
    async with bench.engine():
        fan = await bench.submit(FAN, {"items": [1, 2, 3]})
        younger = await bench.submit(ONCE)
        await complete(bench, fan, younger)
    assert await deaths(bench) > 1
    children = await bench.query(
        "SELECT item, status, attempt FROM dagmaster.node WHERE job_id = %s AND item >= 0 ORDER BY 1", fan
    )
    assert [tuple(child) for child in children] == [(item, "COMPLETED", 1) for item in range(3)]
    assert (await bench.job(fan)).nodes["merge"].output["count"] == 3


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_x06_cancel_and_completion_at_once_end_the_job_once(bench: Bench, *, cancel_first: bool) -> None:
    job_id = await bench.submit(ONCE)
    async with bench.engine():
        (task,) = await bench.worker.claim()
        await bench.worker.report(task)
        (last,) = await bench.worker.claim()
    if cancel_first:
        await cancel(bench, job_id)
    await bench.worker.report(last)  # both are in the inbox when the next owner looks
    if not cancel_first:
        await cancel(bench, job_id)
    async with bench.engine():
        await bench.until(job_id, "CANCELLED", "COMPLETED")

        async def read() -> bool:
            return not await bench.query("SELECT 1 FROM dagmaster.message")

        await eventually_async(read)
    ends = await bench.query(
        "SELECT 1 FROM dagmaster.event WHERE kind = 'job' AND to_status IN ('CANCELLED', 'COMPLETED', 'FAILED')"
    )
    assert len(ends) == 1


async def test_x06b_cancel_before_the_first_dispatch_is_not_undone(bench: Bench) -> None:
    job_id = await bench.submit(ONCE)
    await cancel(bench, job_id)
    async with bench.engine():
        await bench.until(job_id, "CANCELLED")
        assert not await bench.query("SELECT 1 FROM dagmaster.task")
        await complete(bench, await bench.submit(ONCE))
        assert (await bench.job(job_id)).status == "CANCELLED"


async def test_x07_completion_that_comes_while_the_start_is_read_is_not_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message is a row of its own; one is read per tick, and the other waits."""
    monkeypatch.setattr("dagmaster.engine.tick.CONSUMED_BATCH", 1)
    job_id = await bench.submit(ONCE)
    async with bench.engine():
        (task,) = await bench.worker.claim()
    await bench.worker.report(task)
    assert [row.kind for row in await bench.query("SELECT kind FROM dagmaster.message ORDER BY id")][-1] == "report"
    async with bench.engine():
        await complete(bench, job_id)


async def test_x08_start_after_the_completion_changes_nothing(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit(ONCE)
        (task,) = await bench.worker.claim()
        await bench.worker.report(task)
        (last,) = await bench.worker.claim()
        await bench.query(STARTED, task.shard, job_id, task.key.ordinal, task.attempt)
        await bench.worker.report(last)
        job = await bench.until(job_id, "COMPLETED")
    assert job.nodes["a"].output == {"said": "hello"}
    assert job.nodes["a"].status == "COMPLETED"


async def test_x09_crash_while_a_failure_is_heard_spends_one_retry(bench: Bench) -> None:
    retried = ONCE.replace("next: b}", "retry: {max_attempts: 1, backoff: fixed, initial_delay_seconds: 0}, next: b}")
    job_id = await bench.submit(retried)
    async with bench.engine():
        (task,) = await bench.worker.claim()
    await die_once(bench, "message", "DELETE")
    await bench.worker.report(task, **FAILURE)
    async with bench.engine():
        (again,) = await bench.worker.claim()
        assert again.attempt == 2
        assert await deaths(bench) > 1
        (node,) = await bench.query("SELECT spent FROM dagmaster.node WHERE ordinal = %s", task.key.ordinal)
        assert node.spent == 1
        await bench.worker.report(again)
        await complete(bench, job_id)


async def test_x10_former_owner_dispatches_nothing(bench: Bench) -> None:
    async with bench.engine() as former:
        job_id = await bench.submit(ONCE)
        (task,) = await bench.worker.claim()
        await bench.query(
            "UPDATE dagmaster.shard SET owner = 'another', epoch = epoch + 1, lease_until = now() + interval '2 seconds' RETURNING 1"
        )
        await bench.query(
            "INSERT INTO dagmaster.orchestrator VALUES ('another', 1, now(), now() + interval '2 seconds') RETURNING 1"
        )
        assert former.ownership.epochs, "it does not know yet that it owns nothing"
        await bench.worker.report(task)

        async def knows() -> bool:
            return not former.ownership.epochs or bool(
                await bench.query("SELECT 1 FROM dagmaster.shard WHERE owner <> 'another'")
            )

        await eventually_async(knows)
        written = await bench.query(
            "SELECT 1 FROM dagmaster.node n JOIN dagmaster.shard s ON true WHERE n.ordinal = 2 AND s.owner = 'another'"
        )
        assert not written
        await complete(bench, job_id)  # once the other's lease is over


async def test_x11_expression_that_fails_at_dispatch_ends_the_job(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit(ONCE.replace("nodes.a.output.said", "nodes.a.output.missing"))
        (task,) = await bench.worker.claim()
        await bench.worker.report(task)
        job = await bench.until(job_id, "FAILED")
    assert job.nodes["b"].status == "FAILED"
    assert job.nodes["b"].attempt == 0
    assert job.error is not None
    assert "missing" in job.error.message + (job.error.why or "")


async def test_x12_job_that_cannot_be_read_stops_no_other(bench: Bench) -> None:
    poisoned = await bench.submit(CHAIN)
    await bench.query("UPDATE dagmaster.definition SET document = '{\"strange\": true}' RETURNING 1")
    younger = await bench.submit(ONCE)
    async with bench.engine():
        await complete(bench, younger)
        job = await bench.until(poisoned, "FAILED")
    assert job.error is not None
    assert job.error.code == "ENGINE_ERROR"


async def test_x13_submission_that_comes_again_changes_no_owner_and_makes_no_job(bench: Bench) -> None:
    async with bench.engine():
        first = await bench.submit(ONCE, idempotency_key="k")
        (task,) = await bench.worker.claim()
        before = await bench.query("SELECT shard, owner, epoch FROM dagmaster.shard ORDER BY shard")
        async with bench.engine():  # a second orchestrator competes
            assert await bench.submit(ONCE, idempotency_key="k") == first
            with pytest.raises(IdempotencyConflict):
                await bench.submit(ONCE, {"message": "other"}, idempotency_key="k")
        async with bench.pool.connection() as conn:
            row = await job_store.get_job(conn, first)
        assert row is not None
        assert len(await bench.query("SELECT 1 FROM dagmaster.job")) == 1
        assert len(await bench.query("SELECT 1 FROM dagmaster.task")) == 1
        assert len(before) == 64
        await bench.worker.report(task)
        await complete(bench, first)


async def test_x14_hostile_items_stay_text(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "secret-of-this-machine")
    items = ["{{ cycler.__init__.__globals__.os.popen('id -un').read() }}", "{{ env.DB_PASSWORD }}", "{% raw %}"]
    async with bench.engine():
        job_id = await bench.submit(FAN, {"items": items})
        tasks = [task for _ in items for task in await bench.worker.claim()]
        assert sorted(task.params["item"] for task in tasks) == sorted(items)
        for task in tasks:
            await bench.worker.report(task)
        job = await bench.until(job_id, "COMPLETED")
    assert job.nodes["merge"].output["results"] == [{"item": item} for item in items]
