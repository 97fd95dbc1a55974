"""The endpoints: what they answer, and how they refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from dagmaster.contract.messages import Key
from dagmaster.db.looks import NewLog, save_logs
from dagmaster.db.worker import ProgressRow, save_progress
from engine.conftest import CHAIN, Bench
from waiting import eventually_async

FAN = """
workflow_id: fan
name: Fan
version: 1
inputs: {items: {type: array}}
nodes:
  start: {type: start, next: split}
  split:
    type: fan_out
    source: "{{ inputs['items'] }}"
    task: {handler: echo, params: {n: "{{ item }}"}, retry: {max_attempts: 0}}
    next: merge
  merge: {type: fan_in, aggregation: collect, next: end}
  end: {type: end}
"""


async def submitted(http: httpx.AsyncClient, definition: str = CHAIN, **more: Any) -> str:
    answer = await http.post("/api/v1/jobs", json={"definition": definition} | more)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def test_submit_look_and_follow(bench: Bench, http: httpx.AsyncClient) -> None:
    async with bench.engine():
        job_id = await submitted(http, inputs={"message": "hi"})
        (task,) = await bench.worker.claim()
        async with bench.pool.connection() as conn:
            await save_progress(conn, [ProgressRow(job_id, task.key, 1, 40.0, "reading")])
            await save_logs(conn, [NewLog(job_id, Key(*task.key), 1, task.queued_at, "one line", {"n": 1})])

        async def running() -> bool:
            return bool((await http.get(f"/api/v1/jobs/{job_id}")).json()["nodes"]["a"]["status"] == "RUNNING")

        await eventually_async(running)
        progress = (await http.get(f"/api/v1/jobs/{job_id}/progress")).json()
        assert progress["status"] == "RUNNING"
        assert progress["message"] == "a: reading"
        assert 0 < progress["percent"] < 100
        assert (await http.get(f"/api/v1/jobs/{job_id}/nodes/a/progress")).json()["percent"] == 40.0
        logs = (await http.get(f"/api/v1/jobs/{job_id}/logs", params={"node": "a"})).json()
        assert [(line["node"], line["message"]) for line in logs["items"]] == [("a", "one line")]
        tasks = (await http.get("/api/v1/tasks")).json()["items"]
        assert [(line["node"], line["why"]) for line in tasks] == [("a", "Runs on hand-worker.")]
        running_nodes = (await http.get("/api/v1/nodes", params={"status": "RUNNING"})).json()["items"]
        assert [line["node"] for line in running_nodes] == ["a"]
        assert len((await http.get("/api/v1/orchestrators")).json()["items"]) == 1
        await bench.worker.report(task)
        (task,) = await bench.worker.claim()
        await bench.worker.report(task)
        await bench.until(job_id, "COMPLETED")
    events = (await http.get(f"/api/v1/jobs/{job_id}/nodes/a/events")).json()["items"]
    assert [event["to"] for event in events] == ["DISPATCHED", "RUNNING", "COMPLETED"]
    lines = (await http.get("/api/v1/jobs", params={"status": "COMPLETED"})).json()["items"]
    assert [line["job_id"] for line in lines] == [job_id]


async def test_task_that_nobody_can_run_says_so(bench: Bench, http: httpx.AsyncClient) -> None:
    async with bench.engine():
        await submitted(http)

        async def waiting() -> Any:
            return (await http.get("/api/v1/tasks")).json()["items"]

        (line,) = await eventually_async(waiting)
        assert line["why"].startswith("No live worker serves the queue `light`")
        (queue,) = (await http.get("/api/v1/queues/status")).json()["items"]
        assert (queue["waiting"], queue["workers"]) == (1, 0)


async def test_children_come_in_pages_with_their_counts(bench: Bench, http: httpx.AsyncClient) -> None:
    async with bench.engine():
        job_id = await submitted(http, FAN, inputs={"items": list(range(7))})
        for _ in range(7):
            (task,) = await bench.worker.claim()
            await bench.worker.report(task)
        await bench.until(job_id, "COMPLETED")
    job = (await http.get(f"/api/v1/jobs/{job_id}")).json()
    assert job["nodes"]["split"]["children"] == {"COMPLETED": 7}
    assert job["result"]["merge"]["count"] == 7
    seen: list[int] = []
    after = -1
    while True:
        page = (
            await http.get(f"/api/v1/jobs/{job_id}/nodes", params={"parent": "split", "limit": 3, "after": after})
        ).json()
        seen += [child["index"] for child in page["children"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == list(range(7))
    assert (await http.get(f"/api/v1/jobs/{job_id}/nodes/split__3/events")).json()["items"]


async def read_stream(http: httpx.AsyncClient, job_id: str, **headers: str) -> list[tuple[str, str | None, Any]]:
    """All events of a stream until it ends: (event, id, data)."""
    found = []
    async with http.stream("GET", f"/api/v1/jobs/{job_id}/stream", headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join([piece async for piece in answer.aiter_text()])
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", ""), fields.get("id"), json.loads(fields["data"])))
    return found


async def test_stream_tells_everything_and_resumes_after_the_last_event(bench: Bench, http: httpx.AsyncClient) -> None:
    async with bench.engine():
        job_id = await submitted(http)
        streaming = asyncio.create_task(read_stream(http, job_id))
        for _ in "ab":
            (task,) = await bench.worker.claim()
            await bench.worker.report(task)
        events = await streaming
    ids = [int(number) for _, number, _ in events if number]
    assert ids == list(range(1, len(ids) + 1))
    assert events[-1][0] == "end"
    assert events[-1][2] == {"status": "COMPLETED"}
    rest = await read_stream(http, job_id, **{"Last-Event-ID": "3"})
    assert [int(number) for _, number, _ in rest if number] == ids[3:]


async def test_rerun_with_the_pinned_or_the_newest_definition(bench: Bench, http: httpx.AsyncClient) -> None:
    job_id = await submitted(http, inputs={"message": "again"})
    answer = await http.post(f"/api/v1/jobs/{job_id}/rerun", json={"version": "pinned"})
    assert answer.status_code == 202
    before = (await http.get(f"/api/v1/jobs/{job_id}")).json()
    again = (await http.get(f"/api/v1/jobs/{answer.json()['job_id']}")).json()
    assert again["rerun_of"] == job_id
    assert (again["workflow_digest"], again["inputs"]) == (before["workflow_digest"], before["inputs"])
    gone = await http.post(f"/api/v1/jobs/{job_id}/rerun", json={"version": "newest"})
    assert gone.json()["code"] == "WORKFLOW_UNKNOWN"


async def test_versions_and_their_difference(bench: Bench, http: httpx.AsyncClient) -> None:
    await submitted(http)
    await submitted(http, CHAIN.replace("max_attempts: 1", "max_attempts: 2"))
    versions = (await http.get("/api/v1/workflows/chain/versions")).json()["items"]
    assert len(versions) == 2
    answer = await http.get(
        "/api/v1/workflows/chain/diff", params={"before": versions[1]["digest"], "after": versions[0]["digest"][:12]}
    )
    (line,) = answer.json()["differences"]
    assert line == {"path": "/nodes/a/retry/max_attempts", "before": 1, "after": 2}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "REFUSED"),
        ({"workflow_id": "a", "definition": "b"}, 422, "REFUSED"),
        ({"workflow_id": "no_such"}, 404, "WORKFLOW_UNKNOWN"),
        ({"workflow_id": "/etc/passwd"}, 404, "WORKFLOW_UNKNOWN"),
        ({"definition": "nonsense"}, 422, "WORKFLOW_INVALID"),
        ({"definition": CHAIN.replace("handler: echo", "handler: ecko")}, 422, "WORKFLOW_INVALID"),
        ({"definition": CHAIN, "inputs": {"mesage": "x"}}, 422, "INPUT_UNKNOWN"),
        ({"definition": CHAIN, "unknown": 1}, 422, "REQUEST_INVALID"),
        ({"definition": CHAIN, "priority": "high"}, 422, "REQUEST_INVALID"),
    ],
)
async def test_what_is_refused_comes_as_a_problem_document(
    bench: Bench, http: httpx.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await http.post("/api/v1/jobs", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["remedy"]
    assert not await bench.query("SELECT 1 FROM dagmaster.job")


async def test_all_faults_of_the_inputs_are_told_at_once(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/api/v1/jobs", json={"workflow_id": "raster_ingest", "inputs": {"local_path": 5, "colection_id": "x"}}
    )
    assert answer.status_code == 422
    assert len(answer.json()["problems"]) >= 2


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs/not-a-uuid", "/api/v1/nothing", "/api/v1/jobs?cursor=%00", "/api/v1/jobs?limit=0"]
)
async def test_bad_addresses_are_refused(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_checked_workflow_tells_its_findings(http: httpx.AsyncClient) -> None:
    answer = (
        await http.post("/api/v1/workflows/check", json={"definition": CHAIN.replace("next: b}", "next: c}")})
    ).json()
    assert answer["valid"] is False
    assert answer["findings"][0]["line"]
    assert (await http.post("/api/v1/workflows/check", json={"definition": CHAIN})).json()["valid"] is True


@pytest.mark.parametrize("declared", [True, False])
async def test_body_that_is_too_large_is_refused_before_it_is_read(http: httpx.AsyncClient, declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    content = b" " * 2_000_000 if declared else pieces()
    answer = await http.post("/api/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "BODY_TOO_LARGE"
