"""Waiting for a condition, with a deadline. Tests never sleep for a time that somebody guessed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

Value = TypeVar("Value")
POLL_SECONDS = 0.02


def eventually(condition: Callable[[], Value], timeout: float = 10.0) -> Value:
    """Call `condition` until it returns something true, and return that; fail when the time is over."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {_text(condition)}"
        time.sleep(POLL_SECONDS)
    return value


async def eventually_async(condition: Callable[[], Awaitable[Value]], timeout: float = 10.0) -> Value:  # noqa: ASYNC109  # one deadline word for both colours
    """The same for a coroutine function."""
    deadline = time.monotonic() + timeout
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {_text(condition)}"
        await anyio.sleep(POLL_SECONDS)
    return value


def _text(condition: object) -> str:
    try:
        return inspect.getsource(condition).strip()  # type: ignore[arg-type]  # what has no source is shown by its repr
    except (OSError, TypeError):
        return repr(condition)
