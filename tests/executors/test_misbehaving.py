"""Whatever a handler does, its attempt ends with an answer and the next one on the same pool works."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dagmaster.errors import Cancelled
from dagmaster.executors import processes
from dagmaster.executors.base import Outcome
from dagmaster.executors.limits import PASSED_ON, Limits
from dagmaster.executors.processes import ProcessExecutor
from dagmaster.handlers.outside import handlers_of
from executors import misbehaving
from executors.conftest import Heard, task_of
from waiting import eventually, eventually_async

LIMITS = Limits(memory_mib=512, file_mib=8)
SECRETS = ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "DAGMASTER_DATABASE_URL", "AZURE_STORAGE_KEY")
OF_PYTHON = {"PYTHONUNBUFFERED", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "LC_CTYPE"}
"""Set by us, but for LC_CTYPE: Python itself sets that where no language is set."""
HOMES = {found.name: misbehaving.HOME for found in handlers_of(misbehaving)}

Pools = Callable[..., Any]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def pool(scratch: Path, tmp_path: Path) -> Pools:
    """Makes a running pool of one child."""

    @asynccontextmanager
    async def make(size: int = 1, environment: dict[str, str] | None = None) -> AsyncIterator[ProcessExecutor]:
        made = ProcessExecutor(
            size=size,
            scratch=scratch,
            storage=f"file:{tmp_path / 'storage'}",
            environment=environment or {},
            limits=LIMITS,
            homes=HOMES,
        )
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

    return make


async def run(pool: ProcessExecutor, handler: str, heard: Heard | None = None, **params: Any) -> Outcome:
    return await asyncio.wait_for(pool.run(task_of(handler, **params), (heard or Heard()).listener), 30)


def code_of(outcome: Outcome) -> str:
    assert not outcome.completed
    assert outcome.error is not None
    return str(outcome.error["code"])


async def works(pool: ProcessExecutor) -> bool:
    """The pool still runs attempts."""
    return await run(pool, "test.say", word="again") == Outcome(True, {"value": "again"})


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left_in(scratch: Path) -> list[Path]:
    """Folders of attempts."""
    return list(scratch.glob("*/node-*"))


def files_in(scratch: Path) -> list[str]:
    return [str(path) for path in scratch.rglob("*") if path.is_file()]


# --- answers ------------------------------------------------------------------------------------------------


async def test_output_of_a_handler_is_returned(pool: Pools) -> None:
    async with pool() as executor:
        assert await run(executor, "test.say", word="hello") == Outcome(True, {"value": "hello"})


async def test_bundled_handler_is_loaded_by_name(pool: Pools) -> None:
    async with pool() as executor:
        outcome = await run(executor, "echo", message="hello")
        assert outcome.output["echoed_params"] == {"message": "hello"}


async def test_unknown_handler_is_an_error_of_its_own(pool: Pools) -> None:
    async with pool() as executor:
        assert code_of(await run(executor, "nobody.knows")) == "HANDLER_UNKNOWN"
        assert await works(executor)


async def test_code_and_retryability_of_a_handler_error_are_kept(pool: Pools) -> None:
    async with pool() as executor:
        outcome = await run(executor, "test.refuse")
        assert outcome.error is not None
        assert (outcome.error["code"], outcome.error["message"]) == ("PARCEL_UNKNOWN", "no such parcel")
        assert outcome.error["retryable"] is False


@pytest.mark.parametrize("what", ["ValueError", "OSError", "SystemExit", "KeyboardInterrupt", "NUL", "surrogate"])
async def test_whatever_is_raised_becomes_a_retryable_failure_that_can_be_stored(pool: Pools, what: str) -> None:
    async with pool() as executor:
        outcome = await run(executor, "test.raise", word=what)
        assert code_of(outcome) == "HANDLER_FAILED"
        assert outcome.error is not None
        assert outcome.error["retryable"] is True
        assert "seven" in outcome.error["message"]
        assert "\x00" not in str(outcome.error)
        str(outcome.error).encode()


@pytest.mark.parametrize(
    "what", ["nan", "nested nan", "nul", "nul key", "surrogate", "huge", "no json", "other type", "dict"]
)
async def test_output_that_cannot_be_stored_is_refused(pool: Pools, what: str) -> None:
    async with pool() as executor:
        assert code_of(await run(executor, "test.unstorable", word=what)) == "HANDLER_OUTPUT_INVALID"


async def test_params_that_do_not_fit_are_refused(pool: Pools) -> None:
    async with pool() as executor:
        assert code_of(await run(executor, "test.say", number="many")) == "PARAMS_INVALID"


# --- talk ---------------------------------------------------------------------------------------------------


async def test_what_is_printed_becomes_log_lines_of_its_own_attempt(pool: Pools) -> None:
    async with pool() as executor:
        for word in ("first", "second", "third"):
            heard = Heard()
            outcome = await run(executor, "test.print", heard, word=word)
            assert outcome.output == {"value": "printed"}
            assert sorted(line for line in heard.lines if "by " in line) == [
                "by C",
                "by a program",
                "by descriptor",
                f"by python {word}",
                f"by python to stderr {word}",
            ]
            assert heard.lines.count("the end") == 1
            assert all(fields == {"stream": "stdout"} for _, fields in heard.logged)


async def test_flood_of_output_does_not_block_the_handler(pool: Pools) -> None:
    async with pool() as executor:
        heard = Heard()
        assert (await run(executor, "test.flood", heard, number=20_000)).output == {"value": 20_000}
        assert heard.lines[-1] == "19999"


async def test_progress_reaches_the_listener_within_bounds(pool: Pools) -> None:
    async with pool() as executor:
        heard = Heard()
        await run(executor, "test.progress", heard)
        assert heard.progressed == [(0, "at -5"), (10.5, "at 10.5"), (100, "at 250")]


# --- crashes and limits -------------------------------------------------------------------------------------


async def test_exit_is_a_crash_with_its_status_and_its_last_words(pool: Pools) -> None:
    async with pool() as executor:
        heard = Heard()
        outcome = await run(executor, "test.exit", heard, number=3)
        assert code_of(outcome) == "HANDLER_CRASHED"
        assert "exit status 3" in str(outcome.error)
        assert heard.lines == ["last words"]
        assert await works(executor)


async def test_exit_status_zero_is_a_crash_too(pool: Pools) -> None:
    async with pool() as executor:
        assert code_of(await run(executor, "test.exit", number=0)) == "HANDLER_CRASHED"


async def test_segfault_is_a_crash_with_its_signal_and_a_traceback_in_the_log(pool: Pools) -> None:
    async with pool() as executor:
        heard = Heard()
        outcome = await run(executor, "test.segfault", heard)
        assert code_of(outcome) == "HANDLER_CRASHED"
        assert "SIGSEGV" in str(outcome.error)
        assert any("misbehaving.py" in line for line in heard.lines)
        assert await works(executor)


async def test_more_memory_than_allowed_is_oom_and_less_is_not(pool: Pools) -> None:
    async with pool() as executor:
        assert code_of(await run(executor, "test.allocate", number=LIMITS.memory_mib)) == "OOM"
        assert (await run(executor, "test.allocate", number=64)).completed


async def test_memory_that_an_attempt_kept_is_not_missing_to_the_next(pool: Pools) -> None:
    async with pool() as executor:
        assert code_of(await run(executor, "test.hoard")) == "OOM"
        assert (await run(executor, "test.allocate", number=64)).completed


async def test_kill_from_outside_is_oom(pool: Pools) -> None:
    async with pool() as executor:
        heard = Heard()
        running = asyncio.create_task(run(executor, "test.patient", heard, word="/nowhere"))
        await _said(heard)
        os.kill(heard.pids().pop(), signal.SIGKILL)
        assert code_of(await running) == "OOM"
        assert await works(executor)


async def test_file_larger_than_allowed_is_an_error_and_not_a_crash(pool: Pools) -> None:
    async with pool() as executor:
        outcome = await run(executor, "test.write", number=LIMITS.file_mib + 1)
        assert code_of(outcome) == "HANDLER_FAILED"
        assert "File too large" in str(outcome.error)
        assert (await run(executor, "test.write", number=LIMITS.file_mib - 1)).completed


async def test_child_that_cannot_start_fails_the_attempt_with_the_reason(scratch: Path, tmp_path: Path) -> None:
    executor = ProcessExecutor(
        size=1, scratch=scratch, storage=f"file:{tmp_path}", environment={}, limits=LIMITS, preload=["no.such"]
    )
    await executor.start()
    try:
        outcome = await run(executor, "echo")
        assert code_of(outcome) == "HANDLER_CRASHED"
        assert "no.such" in str(outcome.error)
        assert not left_in(scratch)
    finally:
        await executor.stop()


# --- cancelling ---------------------------------------------------------------------------------------------


async def test_cancelling_tells_the_handler(pool: Pools, tmp_path: Path) -> None:
    async with pool() as executor:
        heard = Heard()
        running = asyncio.create_task(run(executor, "test.patient", heard, word=str(tmp_path / "told")))
        await _said(heard)
        await _cancel(running)
        assert (tmp_path / "told").exists()
        assert await works(executor)


async def test_cancelling_kills_the_whole_process_group_even_when_it_is_deaf(pool: Pools, scratch: Path) -> None:
    async with pool() as executor:
        heard = Heard()
        running = asyncio.create_task(run(executor, "test.stubborn", heard))
        await _said(heard)
        pids = heard.pids()
        assert len(pids) == 2
        assert left_in(scratch)
        began = time.monotonic()
        await _cancel(running)
        await eventually_async(_async(lambda: not any(map(alive, pids))))
        assert time.monotonic() - began < 10
        assert not left_in(scratch)
        assert await works(executor)


async def test_cancelling_twice_still_cleans_up(pool: Pools, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.5)
    async with pool() as executor:
        heard = Heard()
        running = asyncio.create_task(run(executor, "test.stubborn", heard))
        await _said(heard)
        running.cancel()
        await asyncio.sleep(0)
        await _cancel(running)
        await eventually_async(_async(lambda: not any(map(alive, heard.pids()))))
        await eventually_async(_async(lambda: not left_in(scratch)))
        assert await works(executor)


async def test_cancelled_while_it_waits_for_a_child_it_leaves_nothing(pool: Pools, scratch: Path) -> None:
    async with pool(size=0) as executor:
        running = asyncio.create_task(run(executor, "test.say"))
        await eventually_async(_async(lambda: left_in(scratch)))
        await _cancel(running)
        assert not left_in(scratch)
        assert await works(executor)


async def test_stopping_ends_every_child(pool: Pools) -> None:
    async with pool(size=2) as executor:
        heard = Heard()
        running = [asyncio.create_task(run(executor, "test.patient", heard, word="/dev/null")) for _ in range(2)]
        await eventually_async(_async(lambda: len(heard.pids()) == 2))
    assert not any(map(alive, heard.pids()))
    await asyncio.gather(*running, return_exceptions=True)


# --- surroundings -------------------------------------------------------------------------------------------


async def test_environment_of_a_child_holds_what_is_declared_and_no_credential(
    pool: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*SECRETS, "SOMETHING_ELSE"):
        monkeypatch.setenv(name, "s3cret")
    async with pool(environment={"GDAL_SKIP": "VRT"}) as executor:
        seen = (await run(executor, "test.environment")).output["value"]
    assert set(seen) <= {*PASSED_ON, *OF_PYTHON, "GDAL_SKIP"}
    assert seen["GDAL_SKIP"] == "VRT"
    assert "s3cret" not in str(seen)
    assert not set(SECRETS) & set(PASSED_ON)


OWNER = """
import asyncio, sys
from pathlib import Path
from dagmaster.executors.limits import Limits
from dagmaster.executors.processes import ProcessExecutor
from executors.conftest import Heard, task_of
from executors.misbehaving import HOME

async def main():
    where = Path(sys.argv[1])
    homes = {"test.patient": HOME}
    executor = ProcessExecutor(size=1, scratch=where, storage=f"file:{where}", environment={}, limits=Limits(), homes=homes)
    await executor.start()
    heard = Heard()
    running = asyncio.create_task(executor.run(task_of("test.patient", word="/nowhere"), heard.listener))
    while not heard.pids():
        await asyncio.sleep(0.02)
    print(*heard.pids(), flush=True)
    await running

asyncio.run(main())
"""


def test_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert alive(child)
        owner.kill()
        eventually(lambda: not alive(child))


async def test_each_attempt_has_an_empty_folder_of_its_own_that_is_removed(pool: Pools, scratch: Path) -> None:
    job_id = "00000000-0000-0000-0000-00000000f01d"
    async with pool() as executor:
        first, second = [
            (await executor.run(task_of("test.folders", job_id=job_id), Heard().listener)).output["value"]
            for _ in range(2)
        ]
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert (first[2], second[2]) == (True, True)
    assert (first[3], second[3]) == (first[0], second[0])
    assert not left_in(scratch)
    assert files_in(scratch) == [f"{first[1]}/ours"]


async def test_scratch_given_as_a_relative_path_is_meant_from_where_the_worker_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    executor = ProcessExecutor(
        size=1, scratch=Path("here"), storage=f"file:{tmp_path}", environment={}, limits=LIMITS, homes=HOMES
    )
    await executor.start()
    try:
        for _ in range(2):
            outcome = await run(executor, "test.folders")
            assert outcome.completed, outcome.error
            assert Path(outcome.output["value"][1]).is_relative_to(tmp_path / "here")
    finally:
        await executor.stop()


# --- checkpoints --------------------------------------------------------------------------------------------


async def test_checkpoint_is_durable_before_the_handler_goes_on(pool: Pools, tmp_path: Path) -> None:
    went_on = tmp_path / "went-on"
    asked, durable = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        asked.set()
        await durable.wait()

    heard = Heard()
    heard.on_checkpoint = slow
    async with pool() as executor:
        running = asyncio.create_task(run(executor, "test.checkpoint", heard, word=str(went_on)))
        await asyncio.wait_for(asked.wait(), 10)
        assert not went_on.exists()
        assert not running.done()
        durable.set()
        assert (await running).completed
    assert went_on.exists()
    assert heard.saved == [(1, {"was": {}})]


async def test_attempt_that_was_lost_is_told_at_its_checkpoint(pool: Pools, tmp_path: Path) -> None:
    async def lost() -> None:
        raise Cancelled

    heard = Heard()
    heard.on_checkpoint = lost
    async with pool() as executor:
        outcome = await run(executor, "test.checkpoint", heard, word=str(tmp_path / "went-on"))
        assert code_of(outcome) == "CANCELLED"
        assert not (tmp_path / "went-on").exists()
        assert await works(executor)


async def test_attempt_resumes_from_the_last_checkpoint(pool: Pools, tmp_path: Path) -> None:
    saved = {"phase": 4, "data": {"row": 12}}
    heard = Heard()
    async with pool() as executor:
        task = task_of("test.checkpoint", saved=saved, word=str(tmp_path / "went-on"))
        outcome = await executor.run(task, heard.listener)
    assert outcome.output == {"value": [4, {"row": 12}]}
    assert heard.saved == [(5, {"was": {"row": 12}})]


# --- helpers ------------------------------------------------------------------------------------------------


async def _said(heard: Heard) -> None:
    await eventually_async(_async(heard.pids), 20)


async def _cancel(running: asyncio.Task[Outcome]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def _async(condition: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def ask() -> Any:
        return condition()

    return ask
