"""Everything that may be wrong with what somebody gives: one table, walked from outside, and the same in the docs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from acceptance.bad_files import BAD_WORKFLOWS, make_handlers, make_large, make_rasters, make_workflows
from acceptance.conftest import Program, Up
from acceptance.prompt import Done, Prompt
from dagmaster.web.limits import BODY_BYTES_MAX
from waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "bad-input.md"
BEFORE: Literal["before"] = "before"
INSIDE: Literal["in the job"] = "in the job"
ENDED = re.compile(r"^job (\S+)  (\w+)$", re.MULTILINE)
MEMORY_MIB = 1024
SCRATCH_MIB = 48
STORAGE_MIB = 8
FULL_MIB = 8
AT_ONCE = 8


@dataclass
class Bench:
    """A dagmaster that is up, the files that the rows name, and how every row ended."""

    folder: Path
    program: Program
    up: Up
    prompt: Prompt
    port_taken: int
    lacks: Mapping[str, str]
    """What some rows need and is not to be had here, with the reason."""
    ended: dict[str, Done] = field(default_factory=dict)

    def workflow(self, name: str) -> str:
        return str(self.folder / "workflows" / name)

    def raster(self, name: str) -> str:
        return str(self.folder / "rasters" / name)

    def inside(self, path: Path) -> Path:
        """A path as the running dagmaster sees it, with its own file systems."""
        return Path(f"/proc/{self.up.process.pid}/root{path}") if "disks" not in self.lacks else path

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.up.url}{path}", timeout=30, trust_env=False)
        answer.raise_for_status()
        return answer.json()


Words = Callable[[Bench], tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """One row: what is given, when it is found, how it ends, and what must be said of it."""

    name: str
    phase: Literal["before", "in the job"]
    code: str | None
    exit: int
    words: Words
    says: tuple[str, ...] = ()
    finding: str | None = None
    """The code of the static check, where there is one."""
    through: Words | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Literal["disks", "privileges"] | None = None
    """Small file systems of its own, or a program without the privileges of root."""

    @property
    def row(self) -> str:
        """The row of the page."""
        code = f"`{self.code}`" if self.code else "-"
        code += f" (`{self.finding}`)" if self.finding else ""
        return f"| {self.name} | {self.phase} | {code} | {self.exit} |"


def submitted(*words: str) -> Words:
    return lambda bench: ("submit", *words)


def defined(name: str) -> Words:
    return lambda bench: ("submit", bench.workflow(f"{name}.yaml"))


def handled(handler: str, *words: str) -> Words:
    return lambda bench: ("submit", bench.workflow(f"{handler}.yaml"), *words)


def ingested(file: str, *more: str) -> Words:
    return lambda bench: ("submit", "raster_ingest", "-i", f"local_path={bench.raster(file)}", *into(file), *more)


def ingested_once(file: str, *more: str) -> Words:
    """Without the retries that a full disk deserves."""
    given = *into(file), *more
    return lambda bench: (
        "submit",
        bench.workflow("ingest-once.yaml"),
        "-i",
        f"local_path={bench.raster(file)}",
        *given,
    )


def fetched(container: str, blob: str) -> Words:
    return submitted("raster_ingest", "-i", f"blob_name={blob}", "-i", f"container_name={container}", *into(blob))


def into(file: str) -> tuple[str, ...]:
    """A collection of its own for each file."""
    return "-i", "collection_id=" + re.sub(r"[^a-z0-9]+", "-", file.lower()).strip("-")


def started(folder: str, *words: str) -> Words:
    """An `up` on a folder of its own."""
    return lambda bench: ("up", "--data", str(bench.folder / folder), *words)


def on_a_full_disk(bench: Bench) -> tuple[str, ...]:
    return mounting(tmpfs(bench.folder / "full", FULL_MIB))


def tmpfs(folder: Path, mib: int) -> str:
    return f"mount -t tmpfs -o size={mib}m none {folder}"


def mounting(command: str) -> tuple[str, ...]:
    """Run a program among file systems that nobody else sees, and that end with it."""
    return "unshare", "--mount", "sh", "-c", f'{command} && exec "$@"', "sh"


def without_privilege(bench: Bench) -> tuple[str, ...]:
    """Root may write everywhere, so root starts it without that privilege."""
    dropped = "--bounding-set=-dac_override", "--inh-caps=-dac_override"
    return ("setpriv", *dropped) if os.geteuid() == 0 else ()


UNKNOWN = "00000000-0000-7000-8000-000000000000"
TABLE = [
    # --- refused before a job exists ---------------------------------------------------------------
    Case("unknown workflow", BEFORE, "WORKFLOW_UNKNOWN", 2, submitted("echo_tset"), ("`echo_tset`", "Did you mean `echo_test`?")),
    Case("no such workflow file", BEFORE, "WORKFLOW_UNKNOWN", 2, submitted("no/such.yaml"), ("`no/such.yaml`", "no such file")),
    Case("workflow file that is not text", BEFORE, "WORKFLOW_INVALID", 2, defined("not-text"), ("not-text.yaml", "UTF-8"), "YAML_INVALID"),
    Case("missing input", BEFORE, "INPUT_MISSING", 2, submitted("echo_test"), ("`message`", "-i message=VALUE")),
    Case("unknown input", BEFORE, "INPUT_UNKNOWN", 2, submitted("echo_test", "-i", "message=x", "-i", "mesage=y"), ("`mesage`", "Did you mean `message`?")),
    Case("wrongly typed input", BEFORE, "INPUT_INVALID", 2, submitted("echo_test", "-i", "message=x", "-i", "count=many"), ("`count`", "many", "whole number")),
    Case("several wrong inputs", BEFORE, "INPUTS_INVALID", 2, submitted("echo_test", "-i", "mesage=x", "-i", "count=many"), ("`mesage`", "`message`", "`count`")),
    Case("input without a value", BEFORE, "INPUT_INVALID", 2, submitted("echo_test", "-i", "message"), ("`message`", "KEY=VALUE")),
    Case("inputs file that is not JSON", BEFORE, "INPUT_INVALID", 2, lambda bench: ("submit", "echo_test", "--inputs", bench.workflow("inputs.json")), ("inputs.json", "JSON")),
    Case("definition that is not YAML", BEFORE, "WORKFLOW_INVALID", 2, defined("not-yaml"), ("not-yaml.yaml:8:", "not YAML"), "YAML_INVALID"),
    Case("definition with a cycle", BEFORE, "WORKFLOW_INVALID", 2, defined("cycle"), ("cycle.yaml:", "a", "b"), "CYCLE"),
    Case("definition with an unknown handler", BEFORE, "WORKFLOW_INVALID", 2, defined("unknown-handler"), ("unknown-handler.yaml:8:", "ecko", "echo"), "HANDLER_UNKNOWN"),
    Case("definition with an unknown parameter", BEFORE, "WORKFLOW_INVALID", 2, defined("unknown-param"), ("unknown-param.yaml:9:", "size_bytse", "size_bytes"), "PARAM_UNKNOWN"),
    Case("definition that reads an input that does not exist", BEFORE, "WORKFLOW_INVALID", 2, defined("unknown-reference"), ("unknown-reference.yaml:8:", "mesage", "message"), "REFERENCE_UNKNOWN"),
    Case("definition that reads an output that does not exist", BEFORE, "WORKFLOW_INVALID", 2, defined("unknown-output"), ("unknown-output.yaml:9:", "tusk_id", "task_id"), "REFERENCE_UNKNOWN"),
    Case("definition with a key twice", BEFORE, "WORKFLOW_INVALID", 2, defined("duplicate-key"), ("duplicate-key.yaml:11:", "`a`", "twice"), "YAML_DUPLICATE_KEY"),
    Case("alias bomb", BEFORE, "WORKFLOW_INVALID", 2, defined("alias-bomb"), ("alias-bomb.yaml:1:", "&a", "not allowed", "and 76 more"), "YAML_REFUSED"),
    Case("100,000 nodes", BEFORE, "WORKFLOW_INVALID", 2, defined("many-nodes"), ("many-nodes.yaml", "262144"), "YAML_TOO_LARGE"),
    Case("100,000 values in a small file", BEFORE, "WORKFLOW_INVALID", 2, defined("many-short-nodes"), ("many-short-nodes.yaml:7:", "10000"), "YAML_TOO_LARGE"),
    Case("no service to talk to", BEFORE, "SERVICE_UNREACHABLE", 3, submitted("echo_test", "-i", "message=x", "--url", "http://127.0.0.1:9"), ("http://127.0.0.1:9", "dagmaster up")),
    Case("no such job", BEFORE, "NOT_FOUND", 5, lambda bench: ("status", UNKNOWN), (UNKNOWN, "dagmaster jobs")),
    Case("port taken", BEFORE, "PORT_IN_USE", 2, lambda bench: started("fresh", "--port", str(bench.port_taken))(bench), ("already in use", "--port")),
    Case("data folder that is a file", BEFORE, "DATA_FOLDER_UNUSABLE", 2, started("rasters/good.tif"), ("good.tif", "--data")),
    Case("data folder not writable", BEFORE, "DATA_FOLDER_UNUSABLE", 2, started("closed"), ("closed", "may not write", "--data"), through=without_privilege, needs="privileges"),
    Case("data folder in use", BEFORE, "DATA_FOLDER_IN_USE", 6, lambda bench: ("up",), ("in use by process", "it answers at http://127.0.0.1:", "--data")),
    Case("disk full at the start", BEFORE, "DATA_FOLDER_UNUSABLE", 2, started("full"), ("no space left", "Free space"), through=on_a_full_disk, needs="disks"),
    Case("handler file that does not import", BEFORE, "HANDLERS_BROKEN", 2, lambda bench: started("fresh", "--handlers", str(bench.folder / "broken"))(bench), ("broken.py:2", "no_such_module")),
    Case("setting that is no number", BEFORE, "SETTING_INVALID", 2, started("fresh"), ("DAGMASTER_WORKER_PROCESSES", "`many`"), environment={"DAGMASTER_WORKER_PROCESSES": "many"}),
    # --- bad data inside a job ------------------------------------------------------------------------
    Case("file missing", INSIDE, "FILE_NOT_FOUND", 1, ingested("missing.tif"), ("missing.tif",)),
    Case("file missing in its container", INSIDE, "FILE_NOT_FOUND", 1, fetched("bronze", "missing.tif"), ("bronze/missing.tif",)),
    Case("0 bytes", INSIDE, "FILE_EMPTY", 1, ingested("empty.tif"), ("empty.tif", "0 bytes")),
    Case("a few bytes", INSIDE, "FILE_TOO_SMALL", 1, ingested("few.tif"), ("few.tif", "4 bytes")),
    Case("truncated", INSIDE, "CORRUPTED_FILE", 1, ingested("truncated.tif"), ("truncated.tif",)),
    Case("bit-rotted in the middle", INSIDE, "CORRUPTED_FILE", 1, ingested("rotten.tif"), ("rotten.tif", "rows")),
    Case("text named `.tif`", INSIDE, "INVALID_FORMAT", 1, ingested("text.tif"), ("text.tif", "GeoTIFF")),
    Case("PNG named `.tif`", INSIDE, "INVALID_FORMAT", 1, ingested("picture.tif"), ("picture.tif", "GeoTIFF")),
    Case("VRT named `.tif`", INSIDE, "INVALID_FORMAT", 1, ingested("vrt.tif"), ("vrt.tif", "GeoTIFF")),
    Case("GeoTIFF named `.jpg`", INSIDE, None, 0, ingested("good.jpg")),
    Case("no CRS", INSIDE, "CRS_MISSING", 1, ingested("no-crs.tif"), ("no-crs.tif", "input_crs")),
    Case("no CRS, and `input_crs` given", INSIDE, None, 0, ingested("no-crs.tif", "-i", "input_crs=EPSG:4326")),
    Case("CRS mismatch", INSIDE, "CRS_MISMATCH", 1, ingested("good.tif", "-i", "input_crs=EPSG:32633"), ("good.tif", "EPSG:4326", "EPSG:32633", "input_crs")),
    Case("`input_crs` that nobody knows", INSIDE, "CRS_INVALID", 1, ingested("good.tif", "-i", "input_crs=EPSG:999999"), ("EPSG:999999",)),
    Case("float64", INSIDE, "RASTER_64BIT_REJECTED", 1, ingested("float64.tif"), ("float64.tif", "float64", "Float32")),
    Case("all nodata", INSIDE, "RASTER_EMPTY", 1, ingested("nothing.tif"), ("nothing.tif", "nodata")),
    Case("2^31 by 2^31 declared pixels", INSIDE, "RASTER_TOO_LARGE", 1, ingested("huge.tif"), ("huge.tif", "4,294,967,296.0 GiB")),
    Case("one pixel less a side", INSIDE, "RASTER_TOO_LARGE", 1, ingested("vast.tif"), ("vast.tif", "GiB")),
    Case("33 kB that unpack to 2 GiB", INSIDE, "RASTER_TOO_LARGE", 1, ingested("bomb.tif"), ("bomb.tif", "33,000 bytes", "times less than it declares")),
    Case("path with `..`", INSIDE, "PATH_REFUSED", 1, fetched("bronze", "a/../../../etc/passwd"), ("a/../../../etc/passwd", "`..`")),
    Case("container with `..`", INSIDE, "PATH_REFUSED", 1, fetched("../../etc", "passwd"), ("../../etc",)),
    Case("reference out of the storage", INSIDE, "PATH_REFUSED", 1, submitted("raster_validate_test", "-i", "blob_path=/vsizip//etc/passwd"), ("/vsizip//etc/passwd", "container/path")),
    Case("output folder with `..`", INSIDE, "PARAMS_INVALID", 1, ingested("good.tif", "-i", "output_folder=../../out"), ("../../out",)),
    Case("disk full while the source is copied", INSIDE, "DISK_FULL", 1, ingested_once("more-than-scratch.tif"), ("scratch", "Free space"), needs="disks"),
    Case("disk full while the result is written", INSIDE, "DISK_FULL", 1, ingested_once("half-of-scratch.tif"), ("scratch", "Free space"), needs="disks"),
    Case("disk full while it is reprojected", INSIDE, "DISK_FULL", 1, ingested_once("half-of-scratch.tif", "-i", "target_crs=EPSG:3857"), ("scratch", "Free space"), needs="disks"),
    Case("disk full while the result is stored", INSIDE, "DISK_FULL", 1, ingested_once("more-than-storage.tif"), ("storage", "Free space in the storage"), needs="disks"),
    Case("disk full in a handler", INSIDE, "DISK_FULL", 1, handled("test.write", "-i", "number=60"), ("worker's disk", "Free space"), needs="disks"),
    # --- handlers ------------------------------------------------------------------------------------
    Case("handler that raises", INSIDE, "HANDLER_FAILED", 1, handled("test.raise", "-i", "word=ValueError"), ("ValueError: seven", "misbehaving.py:", "in raise_it")),
    Case("handler that returns the wrong shape", INSIDE, "HANDLER_OUTPUT_INVALID", 1, handled("test.unstorable", "-i", "word=other type"), ("Other instead of Said",)),
    Case("handler that returns no JSON", INSIDE, "HANDLER_OUTPUT_INVALID", 1, handled("test.unstorable", "-i", "word=nan"), ("nan is not a JSON number",)),
    Case("handler that prints to stdout", INSIDE, None, 0, handled("test.print")),
    Case("handler that exits", INSIDE, "HANDLER_CRASHED", 1, handled("test.exit", "-i", "number=3"), ("exit status 3",)),
    Case("handler that crashes", INSIDE, "HANDLER_CRASHED", 1, handled("test.segfault"), ("SIGSEGV",)),
    Case("handler that hangs", INSIDE, "TASK_TIMEOUT", 1, handled("test.stubborn"), ("1 s", "timeout_seconds")),
    Case("handler that eats memory", INSIDE, "OOM", 1, handled("test.allocate", "-i", "number=4096"), (f"{MEMORY_MIB} MiB",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def bench(session_folder: Path) -> Iterator[Bench]:
    """Everything of the table has been tried out: first what fills the disks, then all the rest together."""
    folder = session_folder / f"bad-{os.getpid()}"
    for name in ("", "broken", "closed", "full"):
        (folder / name).mkdir(mode=0o755)
    (folder / "broken" / "broken.py").write_text("import json\nimport no_such_module\n")
    (folder / "closed").chmod(0o555)
    make_workflows(folder / "workflows")
    make_handlers(folder / "handlers")
    make_rasters(folder / "rasters")
    program = Program(folder / "data")
    program.environment["DAGMASTER_WORKER_MEMORY_MIB"] = str(MEMORY_MIB)
    lacks = lacking(folder / "full")
    if "disks" not in lacks:
        make_large_ones(folder / "rasters")
        program.through = small_disks(program.data)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        program.up("--handlers", str(folder / "handlers")) as up,
        Prompt(folder) as prompt,
    ):
        made = Bench(folder, program, up, prompt, taken.getsockname()[1], lacks)
        possible = [case for case in TABLE if case.needs not in lacks]
        filling = [case for case in possible if case.needs == "disks"]
        others = [case for case in possible if case not in filling]
        for case in filling:
            made.ended[case.name] = typed(made, case)
            eventually(lambda: not scratch_of(made))  # what is left of one would fill the disk of the next
        with ThreadPoolExecutor(AT_ONCE) as pool:
            made.ended |= zip(
                (case.name for case in others), pool.map(lambda case: typed(made, case), others), strict=True
            )
        yield made


def lacking(folder: Path) -> dict[str, str]:
    lacks = {}
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        lacks["disks"] = "a small file system of its own needs root and unshare"
    elif subprocess.run([*mounting(tmpfs(folder, 1)), "true"], capture_output=True, check=False).returncode != 0:
        lacks["disks"] = "mount is not allowed here"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        lacks["privileges"] = "root may write everywhere, and there is no setpriv"
    return lacks


def small_disks(data: Path) -> tuple[str, ...]:
    commands = []
    for name, size in (("scratch", SCRATCH_MIB), ("storage", STORAGE_MIB)):
        (data / name).mkdir(parents=True)
        commands.append(tmpfs(data / name, size))
    data.chmod(0o755)
    return mounting(" && ".join(commands))


def make_large_ones(folder: Path) -> None:
    """One that does not fit into the scratch folder, one whose result does not, one whose result the storage cannot hold."""
    with make_large(folder / "more-than-scratch.tif", 1).open("ab") as file:
        file.truncate((SCRATCH_MIB + 8) * 2**20)
    make_large(folder / "half-of-scratch.tif", SCRATCH_MIB // 2 + 2)
    make_large(folder / "more-than-storage.tif", STORAGE_MIB + 1)


def typed(bench: Bench, case: Case) -> Done:
    """The command of a row as somebody types it; a job is waited for."""
    words = case.words(bench) + (("--wait",) if case.phase == INSIDE else ())
    environment = {**bench.program.environment, **case.environment}
    if case.through is None:
        return bench.prompt.run(words, environment)
    other = Program(bench.program.data)
    other.through, other.environment = case.through(bench), environment
    done = other.run(*words)
    return Done(done.returncode, done.stdout, done.stderr)


def scratch_of(bench: Bench) -> list[Path]:
    return list(bench.inside(bench.program.data / "scratch").iterdir())


def ended(bench: Bench, case: Case) -> Done:
    if case.needs is not None and case.needs in bench.lacks:
        pytest.skip(bench.lacks[case.needs])
    return bench.ended[case.name]


# --- the table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_row(bench: Bench, case: Case) -> None:
    done = ended(bench, case)
    assert done.code == case.exit, done
    assert "Traceback" not in done.stdout + done.stderr
    if case.code is not None:
        assert f"error[{case.code}]: " in done.stderr
        assert "\n  fix: " in done.stderr
    if case.finding is not None:
        assert f"\nerror[{case.finding}]: " in done.stderr
    for words in case.says:
        assert words in done.stderr


@pytest.mark.parametrize("case", [case for case in TABLE if case.phase == INSIDE], ids=lambda case: case.name)
def test_job_says_the_same(bench: Bench, case: Case) -> None:
    found = ENDED.search(ended(bench, case).stdout)
    assert found is not None
    job = bench.up.job(found[1])
    assert job["status"] == found[2] == ("FAILED" if case.code else "COMPLETED")
    assert (job["error"] or {}).get("code") == case.code
    assert "RUNNING" not in {node["status"] for node in job["nodes"].values()}


def test_what_is_refused_prints_nothing_to_stdout(bench: Bench) -> None:
    refused = [bench.ended[case.name] for case in TABLE if case.phase == BEFORE and case.name in bench.ended]
    assert [done for done in refused if done.stdout] == []


def test_page_is_the_table() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    first = lines.index("|---|---|---|---|") + 1
    assert lines[first : first + len(TABLE)] == [case.row for case in TABLE]
    assert not [line for line in lines[first + len(TABLE) :] if line.startswith("|")]
    assert len({case.name for case in TABLE}) == len(TABLE)


# --- nothing half-done ----------------------------------------------------------------------------------------


def test_nothing_but_the_jobs_of_the_table_exists(bench: Bench) -> None:
    waited = [
        ENDED.search(bench.ended[case.name].stdout)
        for case in TABLE
        if case.phase == INSIDE and case.name in bench.ended
    ]
    jobs = bench.get("/api/v1/jobs?limit=500")["items"]
    assert {job["job_id"] for job in jobs} == {found[1] for found in waited if found is not None}


def test_nothing_is_catalogued_or_stored_but_what_completed(bench: Bench) -> None:
    collections = {one["id"] for one in bench.get("/stac/collections")["collections"]}
    assert collections == {"good-jpg", "no-crs-tif"}
    items = [item for one in collections for item in bench.get(f"/stac/collections/{one}/items")["features"]]
    assert len(items) == 2
    storage = bench.inside(bench.program.data / "storage")
    eventually(lambda: not list(storage.glob(".staged/*")))
    files = [path.name for path in storage.rglob("*") if path.is_file()]
    assert sorted(files) == [
        "good_analysis.preview.png",
        "good_analysis.tif",
        "no-crs_analysis.preview.png",
        "no-crs_analysis.tif",
    ]


def test_no_scratch_is_left(bench: Bench) -> None:
    eventually(lambda: not scratch_of(bench))


def test_no_process_is_left_of_a_handler_that_hangs(bench: Bench) -> None:
    def deaf() -> list[int]:
        return [pid for pid in bench.up.descendants() if "deaf" in command_of(pid)]

    eventually(lambda: not deaf())


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_no_folder_was_begun_by_a_start_that_was_refused(bench: Bench) -> None:
    assert not [path for path in (bench.folder / "fresh").glob("*") if path.name != "lock"]
    assert not list((bench.folder / "closed").iterdir())
    assert not list((bench.folder / "full").iterdir())


# --- at little cost -------------------------------------------------------------------------------------------

CPU_SECONDS_MAX = 1.0
GROWTH_MIB_MAX = 64
BOMBS = ("alias bomb", "100,000 nodes", "100,000 values in a small file")


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_costs_the_command_little(bench: Bench, name: str) -> None:
    done = bench.ended[name]
    assert done.cpu_seconds < CPU_SECONDS_MAX
    assert done.memory_mib < GROWTH_MIB_MAX


@pytest.mark.parametrize("name", ["alias-bomb", "many-nodes", "many-short-nodes"])
def test_bomb_that_is_sent_without_the_command_costs_the_service_little(bench: Bench, name: str) -> None:
    pid = bench.up.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from here
    before, began = memory_mib(pid), cpu_seconds(pid)
    answer = httpx.post(
        f"{bench.up.url}/api/v1/jobs", json={"definition": BAD_WORKFLOWS[name]}, timeout=30, trust_env=False
    )
    assert answer.status_code == (413 if len(BAD_WORKFLOWS[name]) > BODY_BYTES_MAX else 422)
    assert len(answer.content) < 256 * 1024
    assert cpu_seconds(pid) - began < CPU_SECONDS_MAX
    assert memory_mib(pid) - before < GROWTH_MIB_MAX


def memory_mib(pid: int) -> float:
    """The most that a process has had."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
