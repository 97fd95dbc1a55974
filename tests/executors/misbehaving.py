"""Handlers from outside, as children load them: some do what they should not, others say what they see."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dagmaster.errors import HandlerError
from dagmaster.handlers.base import Context, Output, Params, handler

HOME = f"file:{__file__}"
MIB = 1024 * 1024
HOARD: list[bytearray] = []
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Given(Params):
    """Whatever a test wants to say."""

    word: str = ""
    number: int = 0


class Said(Output):
    """Whatever the handler found."""

    value: Any = None


class Other(Output):
    """Not what was promised."""


@handler("test.say")
def say(params: Given, ctx: Context) -> Said:
    return Said(value=params.word)


@handler("test.refuse")
def refuse(params: Given, ctx: Context) -> Said:
    raise HandlerError("no such parcel", code="PARCEL_UNKNOWN", retryable=False)


@handler("test.raise")
def raise_it(params: Given, ctx: Context) -> Said:
    raised: dict[str, BaseException] = {
        "ValueError": ValueError("seven"),
        "OSError": OSError("seven"),
        "SystemExit": SystemExit("seven"),
        "KeyboardInterrupt": KeyboardInterrupt("seven"),
        "NUL": ValueError("seven \x00"),
        "surrogate": ValueError("seven \ud800"),
    }
    raise raised[params.word]


@handler("test.unstorable")
def unstorable(params: Given, ctx: Context) -> Said:
    values: dict[str, Any] = {
        "nan": float("nan"),
        "nested nan": {"list": [1.0, {"deep": float("inf")}]},
        "nul": "a\x00b",
        "nul key": {"a\x00b": 1},
        "surrogate": "\ud800",
        "huge": 2**70,
        "no json": object(),
    }
    if params.word == "other type":
        return Other()  # type: ignore[return-value]  # that is the point
    if params.word == "dict":
        return {"value": 1}  # type: ignore[return-value]  # that is the point
    return Said(value=values[params.word])


@handler("test.print")
def print_it(params: Given, ctx: Context) -> Said:
    """Through Python, through the file descriptors, through C, through another program; no newline at the end."""
    print("by python", params.word)  # noqa: T201  # that is the point
    print("by python to stderr", params.word, file=sys.stderr)  # noqa: T201  # that is the point
    os.write(1, b"by descriptor\n")
    ctypes.CDLL(None).printf(b"by C\n")
    subprocess.run(["/bin/echo", "by a program"], check=True)
    os.write(2, b"\x00\xff\n")
    print("the end", end="")  # noqa: T201  # that is the point
    return Said(value="printed")


@handler("test.flood")
def flood(params: Given, ctx: Context) -> Said:
    """One endless line, more than any buffer, then many short ones."""
    os.write(1, b"x" * MIB + b"\n")
    for number in range(params.number):
        print(number)  # noqa: T201  # that is the point
    return Said(value=params.number)


@handler("test.exit")
def exit_now(params: Given, ctx: Context) -> Said:
    print("last words")  # noqa: T201  # that is the point
    os._exit(params.number)


@handler("test.segfault")
def segfault(params: Given, ctx: Context) -> Said:
    ctypes.string_at(0)
    return Said()


@handler("test.allocate")
def allocate(params: Given, ctx: Context) -> Said:
    return Said(value=len(bytearray(params.number * MIB)))


@handler("test.hoard")
def hoard(params: Given, ctx: Context) -> Said:
    """Takes memory until there is none, and keeps it."""
    while True:
        HOARD.append(bytearray(8 * MIB))


@handler("test.write")
def write(params: Given, ctx: Context) -> Said:
    with (ctx.scratch / "large").open("wb") as file:
        for _ in range(params.number):
            file.write(b"\x00" * MIB)
    return Said()


@handler("test.environment")
def environment(params: Given, ctx: Context) -> Said:
    return Said(value=dict(os.environ))


@handler("test.stubborn")
def stubborn(params: Given, ctx: Context) -> Said:
    """Ignores SIGTERM, as its own child process does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    ctx.log("started", pids=[os.getpid(), child.pid])
    time.sleep(600)
    return Said()


@handler("test.patient")
def patient(params: Given, ctx: Context) -> Said:
    """Works until told to stop, and says where."""
    ctx.log("started", pids=[os.getpid()])
    while not ctx.cancelled():
        time.sleep(0.02)
    Path(params.word).write_text("told")
    return Said()


@handler("test.checkpoint")
def checkpoint(params: Given, ctx: Context) -> Said:
    """Leaves a file once it may go on."""
    done, data = ctx.resume()
    ctx.checkpoint(done + 1, {"was": data})
    if ctx.cancelled():
        ctx.progress(50)
    Path(params.word).write_text("went on")
    return Said(value=[done, data])


@handler("test.progress")
def progress(params: Given, ctx: Context) -> Said:
    for percent in (-5, 10.5, 250):
        ctx.progress(percent, f"at {percent}")
    return Said()


@handler("test.folders")
def folders(params: Given, ctx: Context) -> Said:
    empty = not list(ctx.scratch.iterdir())
    (ctx.scratch / "mine").write_text("x")
    (ctx.job_scratch / "ours").write_text("x")
    return Said(value=[str(ctx.scratch), str(ctx.job_scratch), empty, str(Path.cwd())])
