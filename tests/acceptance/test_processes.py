"""The deployed shape: orchestrators and workers as processes of their own around one Postgres, and what kills do to them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from acceptance.conftest import PROGRAM, Up, alive
from acceptance.fleet import Fleet
from dagmaster.dag.definition import load
from dagmaster.dag.library import find
from waiting import eventually

CHAIN = """
workflow_id: chain
name: Chain
version: 1
nodes:
  start: {type: start, next: a}
  a: {handler: echo, params: {n: 1}, next: nap}
  nap: {handler: sleep, params: {duration_seconds: 0.3}, next: b}
  b: {handler: echo, params: {n: 2}, next: end}
  end: {type: end}
"""
NAP = CHAIN.replace("0.3", "20").replace("workflow_id: chain", "workflow_id: nap")


async def test_two_of_each_share_the_work_and_survive_the_death_of_one_orchestrator(
    fleet: Fleet, tmp_path: Path
) -> None:
    first, second = fleet.start("orchestrator"), fleet.start("orchestrator")
    workers = [fleet.start("worker", "--processes", "1") for _ in range(2)]
    eventually(lambda: fleet.shares() == [32, 32], 60)
    eventually(lambda: fleet.query("SELECT count(*) FROM dagmaster.worker") == [(2,)], 60)
    announced = fleet.query("SELECT handlers -> 'echo' -> 'params_schema' ->> 'title' FROM dagmaster.worker")
    assert announced == [("EchoParams",), ("EchoParams",)]

    await fleet.submit(*[load(CHAIN, "chain.yaml")] * 20)
    eventually(lambda: fleet.query("SELECT count(*) FROM dagmaster.attempt WHERE outcome = 'COMPLETED'") >= [(10,)], 60)
    os.killpg(first.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    eventually(lambda: fleet.shares() == [64], 10)
    assert time.monotonic() - killed_at < 10
    eventually(lambda: fleet.all_done(20), 90)
    assert fleet.query(
        "SELECT count(*), count(DISTINCT (job_id, ordinal)) FROM dagmaster.attempt WHERE outcome = 'COMPLETED'"
    ) == [(60, 60)]
    assert len(fleet.query("SELECT DISTINCT worker FROM dagmaster.attempt WHERE worker IS NOT NULL")) == 2
    for table in ("task", "message", "effect", "quarantine"):
        assert fleet.query(f"SELECT count(*) FROM dagmaster.{table}") == [(0,)], table

    for process in (second, *workers):
        process.send_signal(signal.SIGTERM)
    for process in (second, *workers):
        assert process.wait(timeout=25) == 0
    assert fleet.query("SELECT count(*) FROM dagmaster.shard WHERE owner IS NOT NULL") == [(0,)]
    assert not alive({process.pid for process in fleet.processes})


async def test_attempts_of_a_dead_worker_go_to_another_within_35_seconds(fleet: Fleet) -> None:
    fleet.start("orchestrator")
    doomed = fleet.start("worker", "--processes", "1")
    (job_id,) = await fleet.submit(load(NAP, "nap.yaml"))
    eventually(lambda: fleet.query("SELECT 1 FROM dagmaster.node WHERE ordinal = 2 AND status = 'RUNNING'"), 60)
    os.killpg(doomed.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    fleet.start("worker", "--processes", "1")
    eventually(lambda: fleet.query("SELECT 1 FROM dagmaster.node WHERE attempt = 2 AND status = 'RUNNING'"), 40)
    assert time.monotonic() - killed_at < 36
    outcomes = fleet.query(
        "SELECT attempt, outcome FROM dagmaster.attempt WHERE job_id = %s AND outcome = 'LOST'", job_id
    )
    assert outcomes == [(1, "LOST")]


async def test_stopped_worker_gives_its_attempt_back_unspent(fleet: Fleet) -> None:
    fleet.start("orchestrator")
    leaving = fleet.start("worker", "--processes", "1")
    await fleet.submit(load(NAP, "nap.yaml"))
    eventually(lambda: fleet.query("SELECT 1 FROM dagmaster.node WHERE ordinal = 2 AND status = 'RUNNING'"), 60)
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait(timeout=25) == 0
    eventually(lambda: fleet.query("SELECT 1 FROM dagmaster.attempt WHERE outcome = 'RELEASED'"), 10)
    assert fleet.query("SELECT attempt, spent FROM dagmaster.node WHERE ordinal = 2") == [(2, 0)]


def test_submission_straight_through_the_job_queue(fleet: Fleet) -> None:
    words = [PROGRAM, "submit", "echo_test", "-i", "message=queued", "--queue", "--idempotency-key", "once"]
    made = [
        subprocess.run(words, env=fleet.environment, capture_output=True, text=True, timeout=60, check=True).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1]
    fleet.start("orchestrator")
    fleet.start("worker", "--processes", "1")
    eventually(lambda: fleet.all_done(1), 60)
    wrong = subprocess.run([*words[:3], "--queue"], env=fleet.environment, capture_output=True, text=True, check=False)
    assert (wrong.returncode, "INPUT_MISSING" in wrong.stderr) == (2, True)


async def test_a_raster_goes_through_separate_processes(fleet: Fleet, raster: Path) -> None:
    fleet.start("orchestrator")
    fleet.start("worker", "--processes", "1")
    await fleet.submit(find("raster_ingest"), inputs={"local_path": str(raster), "collection_id": "c"})
    eventually(lambda: fleet.all_done(1), 120)
    assert fleet.query("SELECT count(*) FROM catalog.item") == [(1,)]


BUSY = CHAIN.replace("{n: 1}", "{steps: 2, step_delay: 600}").replace("workflow_id: chain", "workflow_id: busy")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_busy_worker_that_goes_leaves_no_process(fleet: Fleet, number: signal.Signals) -> None:
    """A child is in the middle of a task, and so is a thread of the worker, which nobody can stop."""
    fleet.start("orchestrator")
    worker = fleet.start("worker", "--processes", "1")
    await fleet.submit(load(NAP, "nap.yaml"), load(BUSY, "busy.yaml"))
    running = "SELECT count(DISTINCT job_id) FROM dagmaster.node WHERE status = 'RUNNING' AND started_at IS NOT NULL"
    eventually(lambda: fleet.query(running + " AND ordinal IN (1, 2)") == [(2,)], 60)
    eventually(lambda: fleet.query("SELECT 1 FROM dagmaster.task WHERE handler = 'sleep' AND claimed_by IS NOT NULL"))
    family = Up(worker, "").descendants()  # type: ignore[arg-type]  # its output is not read
    assert family
    worker.send_signal(number)
    assert worker.wait(timeout=25) == (0 if number == signal.SIGTERM else -number)
    eventually(lambda: not alive(family))


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("orchestrator", "DAGMASTER_DATABASE_URL"),
        ("orchestrator", "DAGMASTER_STORAGE"),
        ("worker", "DAGMASTER_DATABASE_URL"),
        ("worker", "DAGMASTER_SCRATCH"),
    ],
)
def test_missing_setting_stops_the_process_and_is_named(tmp_path: Path, command: str, missing: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGMASTER_")}
    given = {"DAGMASTER_DATABASE_URL": "postgresql:///x", "DAGMASTER_STORAGE": "file:/tmp", "DAGMASTER_SCRATCH": "/tmp"}
    environment |= {name: value for name, value in given.items() if name != missing}
    done = subprocess.run([PROGRAM, command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"error[SETTING_MISSING]: The setting {missing} is not set." in done.stderr
