"""From `dagmaster init` to a handler and a workflow of one's own that run; what README and how-to say is executed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.conftest import PROGRAM, Program, Up
from dagmaster.db.embedded import DATABASE, PORT, SUPERUSER
from dagmaster.db.places import find_places
from waiting import eventually

DOCS = Path(__file__).parents[2] / "docs"
BOX = ("-i", "west=5", "-i", "south=45", "-i", "east=11", "-i", "north=48")
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
DEFECT = "import no_such_module\n"


@pytest.fixture(scope="module")
def project(shared_program: Program) -> Path:
    """A new project."""
    folder = shared_program.data.parent / f"{shared_program.data.name}-project"
    done = shared_program.run("init", str(folder), "--name", "box_area")
    assert done.returncode == 0, done.stderr
    assert "python -m pytest" in done.stderr
    return folder


def shell(program: Program, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command as somebody types it, with the environment active."""
    environment = {name: value for name, value in program.environment.items() if not name.startswith("PYTEST_")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment["PYTEST_ADDOPTS"] = "-p no:cacheprovider"
    done = subprocess.run(
        ["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


# --- init ------------------------------------------------------------------------------------------


def test_init_makes_one_handler_one_workflow_one_test(project: Path) -> None:
    files = {str(file.relative_to(project)) for file in project.rglob("*") if file.is_file()}
    assert files >= {
        "handlers/box_area.py",
        "workflows/box_area.yaml",
        "tests/test_box_area.py",
        "README.md",
        "pyproject.toml",
    }


def test_the_three_commands_of_its_readme_run(shared_program: Program, project: Path) -> None:
    commands = [text for kind, _, text in FENCE.findall((project / "README.md").read_text()) if kind == "sh"]
    assert len(commands) == 3
    tested, tried, ran = (shell(shared_program, command, project) for command in commands)
    assert "2 passed" in tested.stdout
    assert json.loads(tried.stdout)["area_km2"] == pytest.approx(152_700, rel=0.01)
    assert "strip 4 of 4" in tried.stderr
    assert "COMPLETED" in ran.stdout


def test_its_types_are_strict(shared_program: Program, project: Path) -> None:
    assert "no issues" in shell(shared_program, "python -m mypy --cache-dir=/dev/null", project).stdout


def test_its_files_keep_to_ruffs_format(shared_program: Program, project: Path) -> None:
    shell(shared_program, "ruff check --no-cache --select E,F,I,UP,B handlers tests", project)
    shell(shared_program, "ruff format --no-cache --check handlers tests", project)


def test_init_never_overwrites(program: Program, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    error = program.json("init", str(tmp_path), "--name", "box", code=2)["error"]
    assert (error["code"], error["where"]) == ("PROJECT_FILE_EXISTS", str(tmp_path / "README.md"))
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["Box", "1box", "a-b", "../up", "class", "echo", "hello_world", "", "x" * 49])
def test_a_name_that_cannot_be_is_refused(program: Program, tmp_path: Path, name: str) -> None:
    error = program.json("init", str(tmp_path / "new"), "--name", name, code=2)["error"]
    assert error["code"] == "PROJECT_NAME_INVALID"
    assert not (tmp_path / "new").exists()


def test_the_folder_gives_the_name(program: Program, tmp_path: Path) -> None:
    assert program.json("init", str(tmp_path / "Flood Maps"))["name"] == "flood_maps"


# --- handler run -----------------------------------------------------------------------------------


def test_handler_run_prints_one_document(program: Program, project: Path) -> None:
    document = program.json("handler", "run", "box_area", *BOX, "--handlers", str(project / "handlers"))
    assert (document["status"], document["version"], document["error"]) == ("COMPLETED", 1, None)
    assert len(document["output"]["strips_km2"]) == 4
    assert not program.data.exists(), "no database, no data folder"


def test_handler_run_runs_a_bundled_handler_with_its_kernels(program: Program, raster: Path) -> None:
    document = program.json("handler", "run", "raster.blob_to_mount", "-i", f"local_path={raster}", "--keep")
    folder = Path(document["scratch"])
    try:
        assert Path(document["output"]["local_path"]).is_relative_to(folder / "shared")
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)


def test_wrong_params_exit_with_2_and_are_named_all_at_once(program: Program, project: Path) -> None:
    words = ("handler", "run", "box_area", "-i", "west=far", "-i", "wset=5", "--handlers", str(project / "handlers"))
    error = program.json(*words, code=2)["error"]
    assert error["code"] == "PARAMS_REFUSED"
    assert all(name in error["message"] for name in ("west", "wset", "south", "east", "north"))


def test_a_handler_that_fails_exits_with_1(program: Program) -> None:
    done = program.run("handler", "run", "fail", "-i", "error_message=as asked")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error[HANDLER_FAILED]: as asked" in done.stderr
    assert program.json("handler", "run", "fail", code=1)["error"]["code"] == "HANDLER_FAILED"


def test_keep_leaves_the_folder(program: Program, tmp_path: Path) -> None:
    document = program.json("handler", "run", "multi_phase", "--keep")
    folder = Path(document["scratch"])
    try:
        assert (folder / "scratch").is_dir()
        assert set(json.loads((folder / "checkpoints.json").read_text())) == {"1", "2", "3"}
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)


def test_ctrl_c_ends_it_with_130(program: Program) -> None:
    words = [PROGRAM, "handler", "run", "multi_phase", "-i", "phases=10000"]
    process = subprocess.Popen(
        words, env=program.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert "phase 1 of" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, talk = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in talk


def test_inputs_may_come_from_a_file_and_be_lists(program: Program, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"chunk_id": 1}')
    words = ("handler", "run", "chunk_processor", "--inputs", str(tmp_path / "in.json"), "-i", "chunk_data=[1, 2, 3]")
    assert program.json(*words)["output"]["item_count"] == 3


def test_an_unknown_handler_is_refused(program: Program) -> None:
    assert program.json("handler", "run", "no_such", code=2)["error"]["code"] == "HANDLER_UNKNOWN"


# --- faults ----------------------------------------------------------------------------------------


def test_a_broken_file_stops_up_and_is_shown_by_handlers_and_doctor(program: Program, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(DEFECT)
    given = ("--handlers", str(tmp_path))
    refused = program.run("up", *given)
    assert refused.returncode == 2
    assert "error[HANDLERS_BROKEN]" in refused.stderr
    assert f"{tmp_path / 'broken.py'}:1" in refused.stderr
    assert not program.data.exists(), "nothing was started"
    listed = program.json("handlers", *given, code=1)
    assert listed["faults"][0]["place"] == f"{tmp_path / 'broken.py'}:1"
    assert "echo" in {item["name"] for item in listed["items"]}
    program.environment["DAGMASTER_HANDLERS"] = str(tmp_path)
    findings = program.json("doctor", code=1)["items"]
    assert any("broken.py:1" in finding["fact"] for finding in findings if not finding["ok"])


def test_a_taken_name_stops_run(program: Program, project: Path, tmp_path: Path) -> None:
    text = (project / "handlers" / "box_area.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace('"box_area"', '"echo"'))
    error = program.json("run", "hello_world", "--handlers", str(tmp_path), code=2)["error"]
    assert error["code"] == "HANDLER_NAME_TAKEN"
    assert "mine.py" in error["where"]
    assert "dagmaster.handlers.trial.echo" in error["why"]


def test_workflow_check_knows_own_handlers(program: Program, project: Path) -> None:
    words = ("workflow", "check", str(project / "workflows" / "box_area.yaml"))
    assert not program.json(*words, code=1)["valid"]
    assert program.json(*words, "--handlers", str(project / "handlers"))["valid"]


# --- running ---------------------------------------------------------------------------------------


def test_up_serves_own_workflows_and_a_job_waits_for_its_handler(
    program: Program, project: Path, tmp_path: Path
) -> None:
    own = ("--handlers", str(project / "handlers"), "--workflows", str(project / "workflows"))
    with program.up(*own) as up:
        done = program.json("submit", "box_area", *BOX, "--wait")
        assert done["status"] == "COMPLETED"
        assert "box_area" in {item["name"] for item in program.json("handlers", "--handlers", own[1])["items"]}
        assert program.json("jobs")["items"][0]["workflow_id"] == "box_area"
        job_id = slow_job(program, tmp_path)
        up.until(job_id, "RUNNING")
        up.kill_group()
    with program.up() as up:
        until_it_waits(program, up, job_id)
        refused = program.json("submit", str(project / "workflows" / "box_area.yaml"), *BOX, code=2)
        assert refused["error"]["code"] in ("WORKFLOW_INVALID", "HANDLER_UNKNOWN")
        with worker_beside(program, up, project / "handlers"):
            assert up.until(job_id, "COMPLETED", "FAILED")["status"] == "COMPLETED"
            again = program.json("submit", str(project / "workflows" / "box_area.yaml"), *BOX, "--wait")
            assert again["status"] == "COMPLETED"


def slow_job(program: Program, folder: Path) -> str:
    """A job whose second node needs the own handler, and whose first is still running when we are done."""
    file = folder / "slow.yaml"
    file.write_text(
        "workflow_id: slow\nname: Slow\nversion: 1\nnodes:\n"
        "  start: {type: start, next: wait}\n"
        "  wait: {type: task, handler: sleep, params: {duration_seconds: 3}, next: measure}\n"
        "  measure: {type: task, handler: box_area, params: {west: 0, south: 0, east: 1, north: 1}, next: end}\n"
        "  end: {type: end}\n"
    )
    return str(program.run("submit", str(file)).stdout.strip())


def until_it_waits(program: Program, up: Up, job_id: str) -> None:
    """The node waits in its queue for a worker that has the handler; the job does not fail."""

    def waits() -> bool:
        job = up.job(job_id)
        assert job["status"] != "FAILED", job
        return bool(job["nodes"]["measure"]["status"] == "DISPATCHED")

    eventually(waits, 90)


class worker_beside:  # noqa: N801  # reads as a `with` statement
    """A worker process of its own against the embedded Postgres of an `up`."""

    def __init__(self, program: Program, up: Up, handlers: Path) -> None:
        self.program, self.up, self.handlers = program, up, handlers

    def __enter__(self) -> None:
        environment = self.program.environment | {
            "DAGMASTER_DATABASE_URL": self.address(),
            "DAGMASTER_STORAGE": f"file:{self.program.data / 'storage'}",
            "DAGMASTER_SCRATCH": f"{self.program.data / 'scratch-beside'}",
            "DAGMASTER_HANDLERS": str(self.handlers),
        }
        self.process = subprocess.Popen(
            [PROGRAM, "worker", "--processes", "1"], env=environment, stderr=subprocess.DEVNULL
        )

    def address(self) -> str:
        """Of the embedded Postgres, which only its own `up` is told."""
        sockets = find_places(self.program.data).sockets
        return f"postgresql:///{DATABASE}?host={sockets}&port={PORT}&user={SUPERUSER}"

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def test_the_how_to_runs_as_written(program: Program, tmp_path: Path) -> None:
    folder = tmp_path
    outputs = []
    for kind, title, text in FENCE.findall((DOCS / "how-to" / "write-a-handler.md").read_text()):
        if title:
            (folder / title).write_text(text)
        elif kind == "sh":
            for command in text.strip().splitlines():
                if command.startswith("cd "):
                    folder /= command.removeprefix("cd ")
                else:
                    outputs.append(shell(program, command, folder).stdout)
    assert json.loads(outputs[-3]) == {"size": "small"}
    assert "COMPLETED" in outputs[-1]
    shell(program, "python -m mypy --cache-dir=/dev/null", folder)
