"""Attempts in real child processes, with handlers that misbehave in every way they can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dagmaster.contract.messages import Key, Task
from dagmaster.executors.base import Listener, Outcome
from dagmaster.executors.limits import PASSED_ON, Limits
from dagmaster.executors.processes import ProcessExecutor
from waiting import eventually

HANDLER = '''
import math, os, signal, subprocess, sys, time
from pathlib import Path
from dagmaster.handlers.base import Context, Output, Params, handler
from dagmaster.errors import HandlerError

class P(Params):
    folder: str = ""

class O(Output):
    value: object = None

@handler("misbehave.NAME", isolation="process")
def run(params: P, ctx: Context) -> O:
    """Misbehave."""
    BODY
'''
BODIES = {
    "echo": "return O(value=params.folder)",
    "raises": "raise KeyError('no such key')",
    "coded": "raise HandlerError('too wet', code='TOO_WET', retryable=False)",
    "wrong_type": "return {'value': 1}",
    "nan": "return O(value=math.nan)",
    "nul": "return O(value='a\\x00b')",
    "prints": "print('said on stdout'); print('said on stderr', file=sys.stderr); sys.stdout.flush(); return O(value=1)",
    "exits": "os._exit(3)",
    "segfaults": "os.kill(os.getpid(), signal.SIGSEGV); time.sleep(5)",
    "eats_memory": "return O(value=len(bytearray(2 * 1024**3)))",
    "writes_much": "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); (ctx.scratch / 'big').write_bytes(b'x' * 8 * 1024**2); return O()",
    "environment": "return O(value=dict(os.environ))",
    "ignores_term": "signal.signal(signal.SIGTERM, signal.SIG_IGN); p = subprocess.Popen(['sleep', '600']); (Path(params.folder) / 'pids').write_text(f'{os.getpid()} {p.pid}'); time.sleep(600)",
    "scratch": "(ctx.scratch / 'mine').write_text('x'); return O(value=[str(ctx.scratch), str(ctx.job_scratch), os.getcwd()])",
    "saves": "ctx.checkpoint(1, {'n': 1}); return O(value='cancelled' if ctx.cancelled() else 'saved')",
    "progresses": "ctx.progress(250, 'far'); ctx.log('a line', n=1); return O(value=1)",
    "many_files": "return O(value=len([open('/dev/null') for _ in range(5000)]))",
}  # fmt: skip


class Heard:
    """What attempts said."""

    def __init__(self) -> None:
        self.progress: list[tuple[float, str]] = []
        self.lines: list[str] = []
        self.saved: list[tuple[int, Any]] = []
        self.listener = Listener(
            lambda *_: None, self._progress, self._save, lambda task, message, fields: self.lines.append(message)
        )

    def _progress(self, task: Task, percent: float, message: str) -> None:
        self.progress.append((percent, message))

    async def _save(self, task: Task, phase: int, data: dict[str, Any]) -> None:
        self.saved.append((phase, data))


Run = Callable[..., Any]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """Run a misbehaving handler; the pool has one child, so every test after a crash needs a new one."""
    homes = {}
    for name, body in BODIES.items():
        file = tmp_path / "handlers" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(HANDLER.replace("NAME", name).replace("BODY", body))
        homes[f"misbehave.{name}"] = f"file:{file}"
    executor = ProcessExecutor(
        size=1, scratch=tmp_path / "scratch", storage=f"file:{tmp_path / 'storage'}", environment={"DECLARED": "yes"},
        limits=Limits(memory_mib=1024, file_mib=4, files_open=256), homes=homes,
    )  # fmt: skip
    await executor.start()

    async def one(name: str, heard: Heard | None = None, **params: Any) -> Outcome:
        task = Task(
            "01a20000-0000-7000-8000-000000000000", Key(1), 1, 0, "node", f"misbehave.{name}", "light", 0, params, 60.0,
            datetime.now(UTC),
        )  # fmt: skip
        return await executor.run(task, (heard or Heard()).listener)

    yield one
    await executor.stop()


async def test_output_comes_back(run: Run) -> None:
    assert await run("echo", folder="x") == Outcome(True, {"value": "x"})


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("raises", "HANDLER_FAILED"),
        ("coded", "TOO_WET"),
        ("wrong_type", "HANDLER_OUTPUT_INVALID"),
        ("nan", "HANDLER_OUTPUT_INVALID"),
        ("nul", "HANDLER_OUTPUT_INVALID"),
        ("exits", "HANDLER_CRASHED"),
        ("segfaults", "HANDLER_CRASHED"),
        ("eats_memory", "OOM"),
        ("writes_much", "HANDLER_FAILED"),
        ("many_files", "HANDLER_FAILED"),
    ],
)
async def test_every_misbehaviour_is_an_error_and_the_next_attempt_runs(run: Run, name: str, code: str) -> None:
    outcome = await run(name)
    assert not outcome.completed
    assert outcome.error is not None
    assert outcome.error["code"] == code, outcome.error
    assert (await run("echo", folder="next")).output == {"value": "next"}


async def test_cause_of_a_crash_is_named(run: Run) -> None:
    assert "exit status 3" in (await run("exits")).error["message"]
    assert "SIGSEGV" in (await run("segfaults")).error["message"]


async def test_error_marked_not_retryable_stays_so(run: Run) -> None:
    error = (await run("coded")).error
    assert (error["message"], error["retryable"]) == ("too wet", False)


async def test_wrong_params_are_refused(run: Run) -> None:
    error = (await run("echo", nonsense=1)).error
    assert error["code"] == "PARAMS_INVALID"
    assert "nonsense" in error["message"]


async def test_prints_become_lines_and_do_not_disturb_the_answer(run: Run) -> None:
    heard = Heard()
    assert (await run("prints", heard)).output == {"value": 1}
    await run("echo", heard)
    assert {"said on stdout", "said on stderr"} <= set(heard.lines)


async def test_environment_holds_no_credential(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "DAGMASTER_DATABASE_URL", "AZURE_STORAGE_KEY"):
        monkeypatch.setenv(name, "canary-secret")
    await run("exits")  # the next child is born after the variables were set
    seen = (await run("environment")).output["value"]
    assert "canary-secret" not in str(seen)
    assert seen["DECLARED"] == "yes"
    extra = (
        set(seen) - set(PASSED_ON) - {"DECLARED", "PYTHONUNBUFFERED", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "LC_CTYPE"}
    )
    assert not extra


async def test_cancelling_kills_the_whole_process_group_even_if_it_ignores_term(run: Run, tmp_path: Path) -> None:
    running = asyncio.create_task(run("ignores_term", folder=str(tmp_path)))
    await asyncio.to_thread(eventually, (tmp_path / "pids").exists, 30)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(running, 10)
    await asyncio.to_thread(eventually, lambda: not any(_lives(pid) for pid in pids), 10)
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.name.startswith("node-")]


def _lives(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_scratch_is_the_attempts_own_and_goes(run: Run) -> None:
    own, shared, here = (await run("scratch")).output["value"]
    other, same, _ = (await run("scratch")).output["value"]
    assert own == here
    assert own != other
    assert shared == same
    assert not os.access(own, os.F_OK)
    assert os.access(shared, os.W_OK)


async def test_checkpoint_is_saved_before_the_handler_goes_on(run: Run) -> None:
    heard = Heard()
    assert (await run("saves", heard)).output == {"value": "saved"}
    assert heard.saved == [(1, {"n": 1})]


async def test_progress_and_log_reach_the_listener(run: Run) -> None:
    heard = Heard()
    await run("progresses", heard)
    assert heard.progress == [(100.0, "far")]
    assert "a line" in heard.lines


async def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed takes its children along, by the kernel's own signal."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from dagmaster.executors.processes import ProcessExecutor\n"
        "from dagmaster.executors.limits import Limits\n"
        "async def main():\n"
        "    pool = ProcessExecutor(size=1, scratch=Path(sys.argv[1]), storage='file:/tmp', environment={}, limits=Limits())\n"
        "    await pool.start()\n"
        "    child = await pool._take()\n"
        "    print(child.process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    assert _lives(child)
    os.kill(parent.pid, 9)
    await parent.wait()
    await asyncio.to_thread(eventually, lambda: not _lives(child), 5)
