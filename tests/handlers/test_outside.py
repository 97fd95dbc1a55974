"""Handlers from outside the package: what is found, what is refused, and that nobody imports them here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.messages import Key, Task
from dagmaster.db import worker as worker_store
from dagmaster.db.connect import Pool, open_pool
from dagmaster.errors import Cancelled, HandlerUnknown, SettingInvalid
from dagmaster.executors.base import Listener, Outcome
from dagmaster.executors.limits import Limits, child_environment
from dagmaster.executors.processes import ProcessExecutor
from dagmaster.handlers import outside
from dagmaster.handlers.manifest import KnownHandlers, bundled_specs
from dagmaster.handlers.testing import TestContext
from dagmaster.run.local import remembered

GOOD = '''
from __future__ import annotations
from dagmaster.handlers.base import Context, Output, Params, handler

class DoubleParams(Params):
    number: int

class DoubleOutput(Output):
    number: int

@handler("NAME", version=3, isolation="inline")
def run(params: DoubleParams, ctx: Context) -> DoubleOutput:
    """Double a number."""
    ctx.progress(50, "half")
    return DoubleOutput(number=2 * params.number)
'''


def write(folder: Path, name: str, text: str = GOOD, handler: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text.replace("NAME", handler or name))
    return file


def read(*folders: Path, **environment: str) -> outside.Outside:
    return outside.read(folders, child_environment(environment))


# --- folders ---------------------------------------------------------------------------------------


def test_a_file_with_a_handler_is_read_with_its_version(tmp_path: Path) -> None:
    file = write(tmp_path, "double")
    found = read(tmp_path)
    assert (found.faults, list(found.specs)) == ((), ["double"])
    spec = found.specs["double"]
    assert (spec.version, spec.summary) == (3, "Double a number.")
    assert spec.params_schema["properties"]["number"]["type"] == "integer"
    assert found.places["double"].startswith(f"{file}:")


def test_reading_imports_nothing_here(tmp_path: Path) -> None:
    write(tmp_path, "double", GOOD + "import wave as planted_only_here\n")
    sys.modules.pop("wave", None)
    assert read(tmp_path).specs
    assert "wave" not in sys.modules
    assert not [name for name in sys.modules if name.startswith("dagmaster_outside_")]


def test_a_handler_from_outside_always_runs_in_a_child(tmp_path: Path) -> None:
    write(tmp_path, "double")
    assert read(tmp_path).specs["double"].isolation == "process"


def test_one_file_may_hold_several_handlers_and_use_a_helper(tmp_path: Path) -> None:
    write(tmp_path, "_shared", GOOD, "not_announced")
    (tmp_path / "several.py").write_text(
        "from _shared import DoubleParams, DoubleOutput, run as helper\n"
        "from dagmaster.handlers.trial.echo import run as bundled\n"
        "from dagmaster.handlers.base import Context, handler\n"
        + "".join(
            f"@handler('{name}')\ndef {name}(params: DoubleParams, ctx: Context) -> DoubleOutput:\n    return helper(params, ctx)\n"
            for name in ("first", "second")
        )
    )
    found = read(tmp_path)
    assert (found.faults, sorted(found.specs)) == ((), ["first", "second"])


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = 1\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n\ndef broken(:\n", 3, "SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\nf()\n", 2, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        (
            "from dagmaster.handlers.base import handler\n@handler('x')\ndef run() -> int:\n    return 1\n",
            2,
            "TypeError: x: write it as `def run(params: YourParams, ctx: Context) -> YourOutput`",
        ),
    ],
)
def test_a_broken_file_is_named_with_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    file = write(tmp_path, "broken", text)
    write(tmp_path, "double")
    found = read(tmp_path)
    assert list(found.specs) == ["double"]
    assert found.faults == (outside.Fault(f"{file}:{line}", reason),)
    with pytest.raises(outside.HandlersBroken) as refused:
        found.refuse_faults()
    assert refused.value.where == f"{file}:{line}"
    assert reason in refused.value.message


def test_a_file_that_kills_its_process_leaves_the_others_be(tmp_path: Path) -> None:
    write(tmp_path, "after")
    write(tmp_path, "before")
    file = write(tmp_path, "killer", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    write(tmp_path, "much_later")
    found = read(tmp_path)
    assert sorted(found.specs) == ["after", "before", "much_later"]
    assert found.faults == (outside.Fault(str(file), "importing it ended the process: signal SIGKILL"),)


def test_a_file_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "READ_SECONDS_MAX", 3.0)
    write(tmp_path, "endless", "while True: pass\n")
    assert "more than 3 s" in read(tmp_path).faults[0].reason


def test_what_a_file_prints_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    write(tmp_path, "double", GOOD + "print('{\"spec\": {}}')\nimport os\nos.write(1, b'{}')\n")
    assert list(read(tmp_path).specs) == ["double"]


def test_a_bundled_name_is_taken(tmp_path: Path) -> None:
    file = write(tmp_path, "mine", handler="echo")
    with pytest.raises(outside.HandlerNameTaken) as refused:
        read(tmp_path)
    assert str(file) in (refused.value.where or "")
    assert "dagmaster.handlers.trial.echo" in (refused.value.why or "")


def test_a_name_in_two_folders_is_refused_with_both_places(tmp_path: Path) -> None:
    files = [write(tmp_path / folder, "double") for folder in ("a", "b")]
    with pytest.raises(outside.HandlerNameTaken) as refused:
        read(tmp_path / "a", tmp_path / "b")
    said = f"{refused.value.where} {refused.value.why}"
    assert all(str(file) in said for file in files)


def test_the_same_folder_twice_is_one_folder(tmp_path: Path) -> None:
    write(tmp_path, "double")
    assert list(read(tmp_path, tmp_path / "." / "..", tmp_path).specs) == ["double"]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid):
        read(tmp_path / "nowhere")


def test_without_folders_and_distributions_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_ask", lambda *_: pytest.fail("a process was started"))
    assert read() == outside.Outside()


# --- distributions ----------------------------------------------------------------------------------


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution that announces a module, as an installer leaves it behind."""
    site = tmp_path / "site"
    write(site / "planted_package", "double", GOOD, "planted.double")
    (site / "planted_package" / "__init__.py").touch()
    info = site / "planted_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dagmaster.handlers]\ndouble = planted_package.double\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    return site


def test_an_installed_distribution_announces_its_handlers(distribution: Path) -> None:
    found = read()
    assert (found.faults, list(found.specs)) == ((), ["planted.double"])
    assert found.homes["planted.double"] == "module:planted_package.double"
    assert "planted_package.double" not in sys.modules


def test_an_announced_module_that_is_missing_is_named(distribution: Path) -> None:
    (distribution / "planted_package" / "double.py").unlink()
    (fault,) = read().faults
    assert (fault.place, "No module named" in fault.reason) == ("planted_package.double", True)


# --- running ---------------------------------------------------------------------------------------


async def in_a_child(found: outside.Outside, folder: Path, handler: str, params: dict[str, Any]) -> Outcome:
    async def keep(task: Task, phase: int, data: dict[str, Any]) -> None:
        raise Cancelled

    executor = ProcessExecutor(
        size=1,
        scratch=folder,
        storage=f"file:{folder / 'storage'}",
        environment={},
        limits=Limits(),
        homes=found.homes,
    )
    task = Task("job", Key(1), 1, 0, "node", handler, "light", 0, params, 60.0, datetime.now(UTC))
    await executor.start()
    try:
        return await executor.run(task, Listener(lambda *_: None, lambda *_: None, keep, lambda *_: None))
    finally:
        await executor.stop()


async def test_a_child_runs_a_handler_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "mine", "double")
    outcome = await in_a_child(read(tmp_path / "mine"), tmp_path / "scratch", "double", {"number": 21})
    assert outcome == Outcome(True, {"number": 42})


async def test_a_child_runs_a_handler_of_a_distribution(distribution: Path, tmp_path: Path) -> None:
    outcome = await in_a_child(read(), tmp_path / "scratch", "planted.double", {"number": 21})
    assert outcome == Outcome(True, {"number": 42})


async def test_a_file_broken_since_fails_its_attempt_and_not_the_child(tmp_path: Path) -> None:
    file = write(tmp_path / "mine", "double")
    found = read(tmp_path / "mine")
    await asyncio.to_thread(file.write_text, "import no_such_module\n")
    outcome = await in_a_child(found, tmp_path / "scratch", "double", {"number": 21})
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["where"]) == ("HANDLERS_BROKEN", f"{file}:1")


def test_a_handler_that_is_gone_is_unknown(tmp_path: Path) -> None:
    file = write(tmp_path, "double")
    with pytest.raises(HandlerUnknown):
        outside.load("another", outside.FILE + str(file))


def test_a_test_context_remembers_what_was_said(tmp_path: Path) -> None:
    double = outside.load("double", outside.FILE + str(write(tmp_path / "mine", "double")))
    context = TestContext(tmp_path)
    assert double(double.params(number=4), context).number == 8
    assert context.progressed == [(50, "half")]
    context.is_cancelled = True
    with pytest.raises(Cancelled):
        double(double.params(number=4), context)


# --- what workers announce --------------------------------------------------------------------------


@pytest.fixture
async def pool(database_uri: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_uri)
    yield opened
    await opened.close()


def spec(name: str, version: int = 1) -> HandlerSpec:
    return HandlerSpec(name=name, version=version, params_schema={}, output_schema={})


async def announce(pool: Pool, worker: str, *specs: HandlerSpec) -> None:
    async with pool.connection() as conn:
        await worker_store.register(conn, worker, 1, ["light"], specs)


async def test_a_handler_is_known_as_soon_as_a_worker_announces_it(
    database_uri: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagmaster.handlers.manifest.FRESH_SECONDS", 0)
    known = KnownHandlers(bundled_specs(), database_uri)
    assert "double" not in known
    assert known.get("double") is None
    await announce(pool, "w1", spec("double", 1))
    assert known["double"].version == 1
    assert set(known) == {*bundled_specs(), "double"}
    known.close()


async def test_what_is_given_wins_and_then_the_newest(database_uri: str, pool: Pool) -> None:
    await announce(pool, "w1", spec("double", 2), spec("echo", 99))
    await announce(pool, "w2", spec("double", 1))
    known = KnownHandlers(bundled_specs(), database_uri)
    assert known["double"].version == 2
    assert known["echo"] == bundled_specs()["echo"]
    known.close()


async def test_a_handler_stays_known_when_its_worker_leaves(
    database_uri: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagmaster.handlers.manifest.FRESH_SECONDS", 0)
    await announce(pool, "w1", spec("double"))
    known = KnownHandlers({}, database_uri)
    assert "double" in known
    async with pool.connection() as conn:
        await worker_store.leave(conn, "w1")
    assert "double" in known
    known.close()


async def test_a_lost_connection_is_made_again(database_uri: str, pool: Pool) -> None:
    known = KnownHandlers({}, database_uri)
    assert list(known) == []
    await announce(pool, "w1", spec("double"))
    assert known._conn is not None
    pid = known._conn.info.backend_pid
    with psycopg.connect(database_uri, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    known._asked_at = float("-inf")
    assert "double" in known
    known.close()


def test_a_data_folder_remembers_the_handlers_it_was_started_with(tmp_path: Path) -> None:
    assert remembered(tmp_path, {}) == {}
    assert remembered(tmp_path, {"double": spec("double")}) == {"double": spec("double")}
    assert remembered(tmp_path, {"triple": spec("triple")}) == {"double": spec("double"), "triple": spec("triple")}
    assert set(remembered(tmp_path, {})) == {"double", "triple"}
