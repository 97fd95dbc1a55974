"""The command line's contract: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest

from acceptance.conftest import Program, alive
from waiting import eventually

ERROR_KEYS = {"code", "message", "where", "why", "remedy", "retryable", "node"}


def test_run_echo_prints_one_document(shared_program: Program) -> None:
    job = shared_program.json("run", "echo_test", "-i", "message=hello", "-i", "count=3")
    assert set(job) == {"job_id", "workflow_id", "workflow_version", "status", "nodes", "result", "error"}
    assert (job["workflow_id"], job["status"], job["error"]) == ("echo_test", "COMPLETED", None)
    assert set(job["nodes"]["echo"]) == {"status", "attempt", "duration_seconds", "output", "error"}
    assert job["nodes"]["echo"]["output"]["echoed_params"] == {"message": "hello", "count": 3}
    assert job["result"]["_provenance"]["job_id"] == job["job_id"]


def test_status_of_a_finished_job_is_there_after_a_restart(shared_program: Program) -> None:
    job = shared_program.json("run", "hello_world")
    assert job["nodes"]["hello_world"]["output"] == {"message": "Hello from DAG!"}
    again = shared_program.json("status", job["job_id"])
    assert again == job


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "no_such_workflow"), "WORKFLOW_UNKNOWN"),
        (("run", "echo_tset", "-i", "message=x"), "WORKFLOW_UNKNOWN"),
        (("run", "echo_test"), "INPUT_MISSING"),
        (("run", "echo_test", "-i", "message=x", "-i", "mesage=y"), "INPUT_UNKNOWN"),
        (("run", "echo_test", "-i", "message=x", "-i", "count=many"), "INPUT_INVALID"),
        (("run", "echo_test", "-i", "message"), "INPUT_INVALID"),
        (("run", "/no/such/file.yaml"), "WORKFLOW_UNKNOWN"),
        (("run", "echo_test", "--inputs", "/no/such/file.json"), "INPUT_INVALID"),
    ],
)
def test_what_is_refused_before_a_job_exists_exits_with_2(
    shared_program: Program, words: tuple[str, ...], code: str
) -> None:
    document = shared_program.json(*words, code=2)
    assert document["status"] == "REFUSED"
    assert document["error"]["code"] == code
    assert set(document["error"]) >= ERROR_KEYS
    assert document["error"]["remedy"]
    assert not shared_program.json("jobs", "--status", "FAILED")["items"]


def test_refusal_is_said_in_words(shared_program: Program) -> None:
    done = shared_program.run("run", "echo_tset", "-i", "message=x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error[WORKFLOW_UNKNOWN]" in done.stderr
    assert "echo_test" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_exits_with_2(shared_program: Program) -> None:
    assert shared_program.run("run").returncode == 2
    assert shared_program.run("no-such-command").returncode == 2


def test_failed_job_exits_with_1(shared_program: Program, tmp_path: Path) -> None:
    workflow = tmp_path / "failing.yaml"
    workflow.write_text(
        "workflow_id: failing\nname: Failing\nversion: 1\nnodes:\n"
        "  start: {type: start, next: boom}\n"
        "  boom: {handler: fail, params: {error_message: no luck, code: NO_LUCK, retryable: false}, next: end}\n"
        "  end: {type: end}\n"
    )
    job = shared_program.json("run", str(workflow), code=1)
    assert (job["status"], job["error"]["code"], job["error"]["node"]) == ("FAILED", "NO_LUCK", "boom")
    assert job["nodes"]["end"]["status"] == "SKIPPED"
    plain = shared_program.run("run", str(workflow))
    assert "error[NO_LUCK]: no luck" in plain.stderr


def test_client_without_a_service_exits_with_3(program: Program) -> None:
    document = program.json("submit", "echo_test", "-i", "message=x", code=3)
    assert document["error"]["code"] == "SERVICE_UNREACHABLE"
    assert program.json("submit", "echo_test", "--url", "http://127.0.0.1:9", code=3)["error"]["retryable"]


def test_unknown_job_exits_with_5(shared_program: Program) -> None:
    unknown = "00000000-0000-7000-8000-000000000000"
    assert shared_program.json("status", unknown, code=5)["error"]["code"] == "NOT_FOUND"


def test_workflow_check_names_file_line_and_fix(shared_program: Program, tmp_path: Path) -> None:
    workflow = tmp_path / "wrong.yaml"
    workflow.write_text(
        "workflow_id: wrong\nname: Wrong\nversion: 1\nnodes:\n  start: {type: start, next: a}\n"
        "  a: {handler: ecko, next: end}\n  end: {type: end}\n"
    )
    done = shared_program.run("workflow", "check", str(workflow))
    assert done.returncode == 1
    assert f"{workflow}:6" in done.stderr
    assert "echo" in done.stderr
    document = shared_program.json("workflow", "check", str(workflow), code=1)
    assert document["valid"] is False
    assert shared_program.run("workflow", "check", "raster_ingest").returncode == 0


def test_list_show_version_explain_handlers(shared_program: Program) -> None:
    assert "raster_ingest" in {item["workflow_id"] for item in shared_program.json("workflow", "list")["items"]}
    shown = shared_program.json("workflow", "show", "echo_test")
    assert shown["input_schema"]["required"] == ["message"]
    assert shared_program.json("version")["version"]
    assert shared_program.json("explain", "CRS_MISSING")["retryable"] is False
    assert shared_program.run("explain", "NO_SUCH").returncode == 2
    assert "raster.create_cog" in shared_program.run("handlers").stdout
    assert shared_program.run("doctor").returncode == 0


def test_graph_logs_tasks_diff_and_rerun(program: Program, tmp_path: Path) -> None:
    workflow = tmp_path / "talks.yaml"
    text = (
        "workflow_id: talks\nname: Talks\nversion: 1\nnodes:\n  start: {type: start, next: nap}\n"
        "  nap: {handler: sleep, params: {duration_seconds: 0.1}, next: end}\n  end: {type: end}\n"
    )
    workflow.write_text(text)
    assert program.run("workflow", "graph", str(workflow)).stdout.split("\n")[:3] == [
        "flowchart LR", "    start --> nap", "    nap --> end",
    ]  # fmt: skip
    with program.up() as up:
        job_id = program.json("run", str(workflow))["job_id"]
        assert program.json("logs", job_id) == {"items": [], "next": None}
        assert program.json("tasks")["items"] == []
        workflow.write_text(text.replace("0.1", "0.2"))
        program.json("run", str(workflow))
        versions = httpx.get(f"{up.url}/api/v1/workflows/talks/versions", trust_env=False).json()["items"]
        changed = program.json("workflow", "diff", "talks", versions[1]["digest"], versions[0]["digest"])
        assert [line["path"] for line in changed["differences"]] == ["/nodes/nap/params/duration_seconds"]
        again = program.run("rerun", job_id).stdout.strip()
        assert up.until(again, "COMPLETED")["rerun_of"] == job_id


def test_up_serves_until_ctrl_c_and_leaves_nothing_behind(program: Program) -> None:
    with program.up() as up:
        assert httpx.get(f"{up.url}/readyz", trust_env=False).json()["status"] == "ok"
        health = httpx.get(f"{up.url}/health", trust_env=False).json()
        assert {name: part["status"] for name, part in health["components"].items()} == dict.fromkeys(
            ("database", "orchestrators", "workers"), "ok"
        )
        job = program.json("run", "echo_test", "-i", "message=through the running one")
        assert httpx.get(f"{up.url}/api/v1/jobs/{job['job_id']}", trust_env=False).status_code == 200
        submitted = program.json("submit", "echo_test", "-i", "message=x", "--wait")
        assert submitted["status"] == "COMPLETED"
        assert json.loads(program.run("jobs", "--json").stdout)["items"][0]["job_id"] == submitted["job_id"]

        second = program.run("up")
        assert second.returncode == 6
        assert "DATA_FOLDER_IN_USE" in second.stderr

        children = up.descendants()
        assert children
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(timeout=10) == 0
        assert not alive(children)


def test_port_taken_is_refused(program: Program, session_folder: Path) -> None:
    other = Program(session_folder / "other-port")
    with program.up() as up:
        port = up.url.rpartition(":")[2]
        done = other.run("up", "--port", port)
        assert done.returncode == 2
        assert "PORT_IN_USE" in done.stderr


def test_cancel_ends_a_running_job_and_its_handler(program: Program, tmp_path: Path) -> None:
    workflow = tmp_path / "slow.yaml"
    workflow.write_text(
        "workflow_id: slow\nname: Slow\nversion: 1\nnodes:\n  start: {type: start, next: nap}\n"
        "  nap: {handler: sleep, params: {duration_seconds: 600}, next: end}\n  end: {type: end}\n"
    )
    with program.up() as up:
        job_id = program.run("submit", str(workflow)).stdout.strip()
        eventually(lambda: up.job(job_id)["nodes"]["nap"]["status"] == "RUNNING", 30)
        assert program.run("cancel", job_id).returncode == 0
        job = up.until(job_id, "CANCELLED", timeout=10)
        assert job["nodes"]["nap"]["status"] == "CANCELLED"
        eventually(lambda: not list((program.data / "scratch").glob("*")), 15)
        assert program.run("cancel", job_id).returncode == 6
