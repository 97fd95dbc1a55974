"""kill -9 of everything in the middle of a job, and what is there afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import psycopg
import pytest

from acceptance.conftest import Program, alive
from dagmaster.db.embedded import EmbeddedPostgres
from waiting import eventually

SLOW = """
workflow_id: slow_chain
name: Slow chain
version: 1
nodes:
  start: {type: start, next: one}
  one: {handler: echo, params: {n: 1}, next: nap}
  nap: {handler: sleep, params: {duration_seconds: "{{ inputs.seconds }}"}, next: three}
  three: {handler: echo, params: {slept: "{{ nodes.nap.output.slept_for }}"}, next: end}
  end: {type: end}
inputs:
  seconds: {type: number, default: 3}
"""


def test_killed_in_mid_job_it_completes_after_the_next_up(program: Program, tmp_path: Path) -> None:
    workflow = tmp_path / "slow.yaml"
    workflow.write_text(SLOW)
    with program.up() as up:
        job_id = program.run("submit", str(workflow)).stdout.strip()
        eventually(lambda: up.job(job_id)["nodes"]["nap"]["status"] == "RUNNING", 30)
        children = up.descendants()
        up.kill_group()
        eventually(lambda: not alive(children), 15)
    with program.up() as up:
        job = up.until(job_id, "COMPLETED", timeout=60)
        assert job["nodes"]["one"]["attempt"] == 1
        assert job["nodes"]["nap"]["attempt"] == 2
        assert job["nodes"]["three"]["attempt"] == 1
        eventually(lambda: not list((program.data / "scratch").glob("*")))
    with EmbeddedPostgres(program.data) as server, psycopg.connect(server.uri) as conn:
        rows = conn.execute(
            "SELECT ordinal, attempt, outcome FROM dagmaster.attempt WHERE job_id = %s ORDER BY 1, 2", (job_id,)
        ).fetchall()
        assert [row[2] for row in rows] == ["COMPLETED", "LOST", "COMPLETED", "COMPLETED"]
        for table in ("task", "message", "effect", "quarantine"):
            assert conn.execute(f"SELECT count(*) FROM dagmaster.{table}").fetchone() == (0,), table


@pytest.mark.parametrize("moment", ["create_cog"])
def test_killed_in_mid_ingest_each_effect_is_there_once(program: Program, raster: Path, moment: str) -> None:
    with program.up() as up:
        job_id = program.run(
            "submit", "raster_ingest", "-i", f"local_path={raster}", "-i", "collection_id=crash"
        ).stdout.strip()
        eventually(lambda: up.job(job_id)["nodes"][moment]["status"] == "RUNNING", 60)
        up.kill_group()
    with program.up() as up:
        job = up.until(job_id, "COMPLETED", timeout=90)
        eventually(lambda: not list((program.data / "scratch").glob("*")))
    cog = job["nodes"]["create_cog"]["output"]
    published = sorted(
        path.name for path in (program.data / "storage" / cog["cog_container"]).rglob("*") if path.is_file()
    )
    assert len(published) == 2, published
    assert not list((program.data / "storage" / ".staged").glob("*"))
    with EmbeddedPostgres(program.data) as server, psycopg.connect(server.uri) as conn:
        assert conn.execute("SELECT count(*) FROM catalog.item").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM dagmaster.artifact").fetchone() == (2,)


def test_killed_database_is_started_again_under_a_running_job(program: Program, tmp_path: Path) -> None:
    """Postgres itself dies under a running `up`: it comes back, and the job goes on with nothing lost or doubled."""
    workflow = tmp_path / "slow.yaml"
    workflow.write_text(SLOW)
    with program.up() as up:
        job_id = program.run("submit", str(workflow), "-i", "seconds=4").stdout.strip()
        eventually(lambda: up.job(job_id)["nodes"]["nap"]["status"] == "RUNNING", 30)
        killed = _postmaster(program)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: _postmaster(program) not in (killed, None), 30)
        eventually(lambda: httpx.get(f"{up.url}/readyz", trust_env=False, timeout=30).status_code == 200, 30)
        job = up.until(job_id, "COMPLETED", timeout=60)
        assert [node["attempt"] for node in job["nodes"].values()] == [0, 1, 1, 1, 0]
    assert program.json("status", job_id)["status"] == "COMPLETED"


def _postmaster(program: Program) -> int | None:
    """The process id in the server's pid file; None while there is no whole one."""
    try:
        return int((program.data / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    except (FileNotFoundError, IndexError):
        return None
