"""Attempts in threads: the same answers as from children, with a flag instead of a kill."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dagmaster import handlers
from dagmaster.errors import Cancelled
from dagmaster.executors.inline import InlineExecutor
from dagmaster.handlers.outside import handlers_of
from executors import misbehaving
from executors.conftest import Heard, task_of
from waiting import eventually_async


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' handlers by name, each as if a module of its own held it."""
    found = {made.name: made for made in handlers_of(misbehaving)}
    bundled = handlers.load
    monkeypatch.setattr(handlers, "load", lambda name: found[name] if name in found else bundled(name))


@pytest.fixture
async def executor(tmp_path: Path, bundled: None) -> AsyncIterator[InlineExecutor]:
    made = InlineExecutor(tmp_path / "scratch", f"file:{tmp_path / 'storage'}")
    await made.start()
    yield made
    await made.stop()


def files_in(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()]


async def test_output_is_returned_and_no_folder_is_made(executor: InlineExecutor) -> None:
    outcome = await executor.run(task_of("test.say", word="hello"), Heard().listener)
    assert (outcome.completed, outcome.output) == (True, {"value": "hello"})
    assert not list(executor.scratch.iterdir())


async def test_folders_are_made_when_asked_for_and_the_attempts_own_is_removed(executor: InlineExecutor) -> None:
    outcome = await executor.run(task_of("test.folders"), Heard().listener)
    own, shared, empty, _ = outcome.output["value"]
    assert empty
    assert files_in(executor.scratch) == [f"{shared}/ours"]
    assert files_in(Path(own)) == []
    assert Path(own).is_relative_to(executor.scratch)


@pytest.mark.parametrize(
    ("handler", "word", "code"),
    [
        ("test.refuse", "", "PARCEL_UNKNOWN"),
        ("test.raise", "ValueError", "HANDLER_FAILED"),
        ("test.raise", "SystemExit", "HANDLER_FAILED"),
        ("test.raise", "KeyboardInterrupt", "HANDLER_FAILED"),
        ("test.unstorable", "nan", "HANDLER_OUTPUT_INVALID"),
        ("test.unstorable", "nul", "HANDLER_OUTPUT_INVALID"),
        ("test.unstorable", "surrogate", "HANDLER_OUTPUT_INVALID"),
        ("test.unstorable", "dict", "HANDLER_OUTPUT_INVALID"),
    ],
)
async def test_faults_become_errors_with_their_codes(
    executor: InlineExecutor, handler: str, word: str, code: str
) -> None:
    outcome = await executor.run(task_of(handler, word=word), Heard().listener)
    assert not outcome.completed
    assert outcome.error is not None
    assert outcome.error["code"] == code


async def test_cancelling_sets_the_flag_that_the_handler_sees(executor: InlineExecutor, tmp_path: Path) -> None:
    heard = Heard()
    running = asyncio.create_task(executor.run(task_of("test.patient", word=str(tmp_path / "told")), heard.listener))
    await eventually_async(_async(heard.pids))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually_async(_async((tmp_path / "told").exists))


async def test_checkpoint_is_durable_before_the_handler_goes_on(executor: InlineExecutor, tmp_path: Path) -> None:
    asked, durable = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        asked.set()
        await durable.wait()

    heard = Heard()
    heard.on_checkpoint = slow
    task = task_of("test.checkpoint", word=str(tmp_path / "went-on"))
    running = asyncio.create_task(executor.run(task, heard.listener))
    await asyncio.wait_for(asked.wait(), 10)
    assert not (tmp_path / "went-on").exists()
    durable.set()
    assert (await running).completed
    assert heard.saved == [(1, {"was": {}})]


async def test_attempt_that_was_lost_is_told_at_its_checkpoint(executor: InlineExecutor, tmp_path: Path) -> None:
    async def lost() -> None:
        raise Cancelled

    heard = Heard()
    heard.on_checkpoint = lost
    task = task_of("test.checkpoint", word=str(tmp_path / "went-on"))
    outcome = await executor.run(task, heard.listener)
    assert outcome.error is not None
    assert outcome.error["code"] == "CANCELLED"
    assert not (tmp_path / "went-on").exists()


async def test_progress_and_log_lines_reach_the_listener(executor: InlineExecutor) -> None:
    heard = Heard()
    await executor.run(task_of("test.progress"), heard.listener)
    assert heard.progressed[1] == (10.5, "at 10.5")


SLOW = """
import asyncio, sys
from pathlib import Path
from dagmaster.executors.inline import InlineExecutor
from dagmaster.handlers.outside import handlers_of
from executors import misbehaving
from executors.conftest import Heard, task_of

async def main():
    executor = InlineExecutor(Path(sys.argv[1]), f"file:{sys.argv[1]}")
    await executor.start()
    running = asyncio.create_task(executor.run(task_of("echo", steps=2, step_delay=600.0), Heard().listener))
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await executor.stop()

asyncio.run(main())
"""


def test_process_ends_though_a_handler_sleeps_on(tmp_path: Path) -> None:
    """A thread cannot be killed; it must not keep a worker from ending."""
    done = subprocess.run(
        [sys.executable, "-c", SLOW, str(tmp_path)],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


def _async(condition: Callable[[], Any]) -> Callable[[], Any]:
    async def ask() -> Any:
        return condition()

    return ask
