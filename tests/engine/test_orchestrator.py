"""The engine against real Postgres: what it writes, how it shares work, and what it survives."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest

from dagmaster.contract.messages import Key, Report
from dagmaster.contract.store import Batch, Fence, InboxRow
from dagmaster.dag.decide import decide
from dagmaster.dag.definition import load
from dagmaster.db import shards
from dagmaster.db.connect import connect
from dagmaster.db.engine import PostgresStore, read_clock
from dagmaster.engine.submit import Submission, submit
from dagmaster.errors import IdempotencyConflict, OwnershipLost
from engine.conftest import CHAIN, SPECS, Bench, HandWorker
from waiting import eventually_async

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


async def test_a_job_runs_to_its_end(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit(inputs={"message": "hi"})
        for name in ("a", "b"):
            (task,) = await bench.worker.claim()
            assert (task.node_id, task.params) == (name, {"said": "hi"})
            await bench.worker.report(task)
        job = await bench.until(job_id, "COMPLETED")
    assert job.result is not None
    assert job.result["b"] == {"said": "hi"}
    assert job.result["_provenance"]["workflow_digest"] == job.workflow_digest
    assert {name: node.status for name, node in job.nodes.items()} == dict.fromkeys(
        ("start", "a", "b", "end"), "COMPLETED"
    )


async def test_events_are_gapless_and_lead_to_the_rows(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        for _ in "ab":
            (task,) = await bench.worker.claim()
            await bench.worker.report(task)
        await bench.until(job_id, "COMPLETED")
    events = await bench.query(
        "SELECT seq, ordinal, item, from_status, to_status, kind FROM dagmaster.event WHERE job_id = %s ORDER BY seq",
        job_id,
    )
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    state: dict[Any, str] = {}
    for event in events:
        if event.kind == "node":
            key = Key(event.ordinal, event.item)
            assert state.get(key, "PENDING") == event.from_status
            state[key] = event.to_status
    rows = await bench.query("SELECT ordinal, item, status FROM dagmaster.node WHERE job_id = %s", job_id)
    assert state == {Key(row.ordinal, row.item): row.status for row in rows}


async def test_nothing_is_left_in_queue_inbox_or_outbox(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        for _ in "ab":
            (task,) = await bench.worker.claim()
            await bench.worker.report(task)
        await bench.until(job_id, "COMPLETED")
        for table in ("task", "message", "effect", "quarantine"):
            assert not await bench.query(f"SELECT 1 FROM dagmaster.{table}"), table  # names of this list


async def test_retry_waits_and_then_counts_on(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        (task,) = await bench.worker.claim()
        await bench.worker.report(
            task, outcome="FAILED", output=None, error={"code": "X", "message": "x", "retryable": True}
        )
        (again,) = await bench.worker.claim()
        assert (again.node_id, again.attempt) == ("a", 2)
        waited = await bench.query(
            "SELECT extract(epoch FROM %s - finished_at) AS seconds FROM dagmaster.attempt WHERE attempt = 1",
            again.queued_at,
        )
        assert float(waited[0].seconds) >= 1.0
        await bench.worker.report(again)
        (last,) = await bench.worker.claim()
        await bench.worker.report(last)
        await bench.until(job_id, "COMPLETED")


async def test_late_report_of_a_former_attempt_is_kept_as_superseded(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        (task,) = await bench.worker.claim()
        await bench.worker.report(
            task, outcome="FAILED", output=None, error={"code": "X", "message": "x", "retryable": True}
        )
        (again,) = await bench.worker.claim()
        await bench.worker.report(task, output={"said": "stale"})
        await bench.worker.report(again, output={"said": "fresh"})
        (last,) = await bench.worker.claim()
        assert last.params == {"said": "fresh"}
        events = await bench.query("SELECT kind FROM dagmaster.event WHERE job_id = %s AND kind = 'superseded'", job_id)
        assert len(events) == 1


async def test_worker_that_stops_renewing_loses_its_attempt(bench: Bench) -> None:
    async with bench.engine():
        await bench.submit()
        (task,) = await bench.worker.claim()
        await bench.query("UPDATE dagmaster.task SET lease_until = clock_timestamp() + interval '1 second' RETURNING 1")
        # The orchestrator looks at the lease when it first ran out; make that now by a fresh owner.
    async with bench.engine():
        (again,) = await HandWorker(bench.pool, "second").claim()
        assert (again.key, again.attempt) == (task.key, 2)


async def test_the_same_idempotency_key_makes_one_job(bench: Bench) -> None:
    ids = await asyncio.gather(*(bench.submit(idempotency_key="k") for _ in range(10)))
    assert len(set(ids)) == 1
    with pytest.raises(IdempotencyConflict):
        await bench.submit(inputs={"message": "another"}, idempotency_key="k")


async def test_a_running_job_keeps_its_definition(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        (task,) = await bench.worker.claim()
        changed = CHAIN.replace("{{ nodes.a.output.said }}", "changed").replace("version: 1", "version: 2")
        await bench.submit(changed)
        await bench.worker.report(task)
        said = {}
        for _ in range(2):
            (task,) = await bench.worker.claim()
            said[task.job_id, task.node_id] = task.params
        assert said[job_id, "b"] == {"said": "hello"}
    assert len(await bench.query("SELECT 1 FROM dagmaster.definition")) == 2


async def test_job_whose_decision_raises_is_given_up_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(state: Any, messages: Any, now: Any) -> Any:
        if state.inputs["message"] == "poison" and not any(type(m).__name__ == "Failed" for m in messages):
            raise RuntimeError("boom")
        return decide(state, messages, now)

    monkeypatch.setattr("dagmaster.engine.tick.decide", boom)
    async with bench.engine():
        poisoned = await bench.submit(inputs={"message": "poison"})
        healthy = await bench.submit()
        job = await bench.until(poisoned, "FAILED")
        assert job.error is not None
        assert job.error.code == "ENGINE_ERROR"
        assert "boom" in (job.error.why or "")
        (task,) = await bench.worker.claim()
        assert task.job_id == healthy


async def test_job_whose_decision_cannot_be_written_is_given_up_alone(bench: Bench) -> None:
    """Neither JSON nor Postgres holds the number; the other job of the same tick goes on and nothing comes again."""
    async with bench.engine() as engine:
        poisoned = await bench.submit()
        (task,) = await bench.worker.claim()
        healthy = await bench.submit()
        (other,) = await bench.worker.claim()
        for each, said in ((task, 2**70), (other, "fine")):
            report = Report(each.key, each.attempt, "w", "COMPLETED", output={"said": said})
            assert engine.deliver(each.job_id, each.shard, report)
        job = await bench.until(poisoned, "FAILED")
        assert job.error is not None
        assert job.error.code == "ENGINE_ERROR"
        assert "64-bit" in (job.error.why or "")
        (following,) = await bench.worker.claim()
        assert (following.job_id, following.params) == (healthy, {"said": "fine"})
        for table in ("task", "message"):
            assert not await bench.query(f"SELECT 1 FROM dagmaster.{table} WHERE job_id = %s", poisoned)


async def test_job_that_cannot_be_restored_is_given_up_alone(bench: Bench) -> None:
    """Its definition is of a release that is not known here; its task leaves the queue with it."""
    job_id, healthy = await bench.submit(), await bench.submit()
    async with bench.engine():
        await bench.worker.claim(2)
    await bench.query(
        "WITH made AS (INSERT INTO dagmaster.definition VALUES (repeat('f', 64), 'w', 1, '{\"strange\": true}', now())"
        " RETURNING digest) UPDATE dagmaster.job SET digest = made.digest FROM made WHERE job_id = %s RETURNING 1",
        job_id,
    )
    async with bench.engine():
        await bench.query(
            "INSERT INTO dagmaster.message (shard, job_id, kind, body) SELECT shard, job_id, 'started',"
            ' \'{"ordinal": 1, "item": -1, "attempt": 1, "worker": "w", "at": "2026-01-01T00:00:00Z",'
            ' "timeout_seconds": 60}\' FROM dagmaster.job WHERE job_id = %s RETURNING 1',
            job_id,
        )
        rows = await eventually_async(
            lambda: bench.query("SELECT status FROM dagmaster.job WHERE finished_at IS NOT NULL")
        )
        assert [row.status for row in rows] == ["FAILED"]
        assert [str(row.job_id) for row in await bench.query("SELECT job_id FROM dagmaster.task")] == [healthy]


async def test_long_list_of_a_fan_in_lies_in_the_storage(bench: Bench) -> None:
    """The fan-in names it and counts it; short ones are part of the output."""
    async with bench.engine():
        long = await bench.submit(FAN, {"items": [{"text": "x" * 40_000, "n": n} for n in range(40)]})
        short = await bench.submit(FAN, {"items": [{"n": n} for n in range(3)]})
        stop = asyncio.Event()
        working = asyncio.create_task(bench.worker.work(until=stop.is_set))
        jobs = {job_id: await bench.until(job_id, "COMPLETED", timeout=30) for job_id in (long, short)}
        stop.set()
        await working
    assert jobs[short].nodes["merge"].output == {"results": [{"item": {"n": n}} for n in range(3)], "count": 3}
    output = jobs[long].nodes["merge"].output
    assert (output["count"], set(output["results"])) == (40, {"href", "size_bytes"})
    lines = (bench.folder / output["results"]["href"]).read_bytes().splitlines()
    assert [orjson.loads(line)["item"]["n"] for line in lines] == list(range(40))
    assert sum(len(line) + 1 for line in lines) == output["results"]["size_bytes"]


async def test_messages_that_cannot_be_read_are_quarantined(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        (task,) = await bench.worker.claim()
        for kind, body in (
            ("report", "{}"),
            ("nonsense", "{}"),
            ("report", '{"ordinal": 1, "item": -1, "attempt": 1, "worker": "w", "outcome": "?"}'),
        ):
            await bench.query(
                "INSERT INTO dagmaster.message (shard, job_id, kind, body) VALUES (%s, %s, %s, %s) RETURNING 1",
                task.shard,
                job_id,
                kind,
                body,
            )
        await bench.worker.report(task)
        await bench.worker.claim()
        assert len(await bench.query("SELECT 1 FROM dagmaster.quarantine")) == 3


async def test_cancel_ends_the_job_and_revokes_its_task(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        await bench.worker.claim()
        await bench.query(
            "INSERT INTO dagmaster.message (shard, job_id, kind, body) SELECT shard, job_id, 'cancel', '{}' FROM dagmaster.job RETURNING 1"
        )
        await bench.until(job_id, "CANCELLED")
        assert not await bench.query("SELECT 1 FROM dagmaster.task")


# --- several orchestrators -------------------------------------------------------------------------


async def shares(bench: Bench) -> list[int]:
    rows = await bench.query(
        "SELECT count(*) AS n FROM dagmaster.shard WHERE owner IS NOT NULL GROUP BY owner ORDER BY 1"
    )
    return [row.n for row in rows]


async def test_two_orchestrators_share_the_shards_and_complete_everything_once(bench: Bench) -> None:
    async with bench.engine(), bench.engine():

        async def fair() -> bool:
            return await shares(bench) == [32, 32]

        await eventually_async(fair)
        ids = [await bench.submit(inputs={"message": str(number)}) for number in range(40)]
        finished: set[str] = set()

        async def watch() -> None:
            for job_id in ids:
                await bench.until(job_id, "COMPLETED", timeout=30)
                finished.add(job_id)

        _, done = await asyncio.gather(watch(), bench.worker.work(until=lambda: len(finished) == len(ids)))
        assert done == 2 * len(ids)
        both = await bench.query("SELECT DISTINCT owner FROM dagmaster.shard")
        assert len(both) == 2


async def test_stopping_hands_the_shards_over_at_once(bench: Bench) -> None:
    async with bench.engine() as stays:
        async with bench.engine():

            async def fair() -> bool:
                return await shares(bench) == [32, 32]

            await eventually_async(fair)

        async def all_mine() -> bool:
            return len(stays.ownership.epochs) == 64

        await eventually_async(all_mine, 4)


async def test_a_former_owner_cannot_write(bench: Bench) -> None:
    async with await connect(bench.uri) as one, await connect(bench.uri) as two:
        await shards.renew(one, "one", 1, timedelta(seconds=8))
        held = await shards.take(one, "one", list(range(64)), timedelta(seconds=-1))
        assert len(held) == 64
        await shards.renew(two, "two", 2, timedelta(seconds=8))
        taken = await shards.take(two, "two", [5], timedelta(seconds=8))
        assert taken == {5: held[5] + 1}
        row = InboxRow(5, 1, "00000000-0000-0000-0000-000000000000", "submitted", {})
        with pytest.raises(OwnershipLost):
            batch = Batch(await read_clock(one), timedelta(seconds=30), consumed=[row])
            await PostgresStore(one).turn(Fence("one", held), batch, [], 0)


async def test_a_takeover_waits_for_a_running_tick(bench: Bench) -> None:
    async with await connect(bench.uri) as one, await connect(bench.uri) as two:
        await shards.renew(one, "one", 1, timedelta(seconds=8))
        held = await shards.take(one, "one", [7], timedelta(seconds=-1))
        async with one.transaction():
            await one.execute(
                b"SELECT dagmaster.hold_shards('one', ARRAY[7]::smallint[], ARRAY[%s]::bigint[])"
                % str(held[7]).encode()
            )
            taking = asyncio.create_task(shards.take(two, "two", [7], timedelta(seconds=8)))
            _, waiting = await asyncio.wait([taking], timeout=0.3)
            assert waiting, "the takeover did not wait"
            await shards.renew(one, "one", 1, timedelta(seconds=-1))
        assert await taking == {7: held[7] + 1}


async def test_killed_owner_is_replaced_without_waiting_for_its_lease(bench: Bench) -> None:
    """The liveness lock vanishes with the session, so takeover begins long before the lease of 8 s is over."""
    async with await connect(bench.uri) as dead:
        await shards.hold_liveness(dead, 77)
        await shards.renew(dead, "dead", 77, timedelta(hours=1))
        await shards.take(dead, "dead", list(range(64)), timedelta(hours=1))
    async with bench.engine() as alive:
        assert len(alive.ownership.epochs) == 64


async def test_engine_goes_on_after_its_connections_were_cut(bench: Bench) -> None:
    async with bench.engine():
        job_id = await bench.submit()
        (task,) = await bench.worker.claim()
        await bench.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await bench.pool.check()
        await bench.worker.report(task)
        (task,) = await bench.worker.claim()
        await bench.worker.report(task)
        await bench.until(job_id, "COMPLETED")


async def test_submission_is_one_transaction(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut(*_: Any) -> bool:
        raise psycopg.OperationalError("cut")

    monkeypatch.setattr("dagmaster.db.jobs.insert_job", cut)
    with pytest.raises(psycopg.OperationalError):
        await submit(bench.pool, Submission(load(CHAIN, "test.yaml"), {}), SPECS)
    for table in ("definition", "job", "message"):
        assert not await bench.query(f"SELECT 1 FROM dagmaster.{table}"), table  # names of this list
