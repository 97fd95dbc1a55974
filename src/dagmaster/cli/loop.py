"""Commands that wait for something: their event loop, and how signals end them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run_to_its_end(work: Coroutine[Any, Any, int | None]) -> int | None:
    """Run a command; Ctrl-C and SIGTERM leave as KeyboardInterrupt, unless it listens to signals itself."""
    try:
        return asyncio.run(_until_terminated(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def stop_on_signals() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set, for commands that end in order."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _until_terminated(work: Coroutine[Any, Any, int | None]) -> int | None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
