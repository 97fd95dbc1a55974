"""Attempts of trusted, light handlers in threads of this process."""

from __future__ import annotations

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dagmaster import handlers
from dagmaster.contract.messages import Task
from dagmaster.errors import Cancelled
from dagmaster.executors.attempt import AttemptContext, make_scratch, run_attempt
from dagmaster.executors.base import Listener, Outcome
from dagmaster.storages import open_storage

THREADS = 16


class LazyScratch:
    """The folders of an attempt, made only when a handler asks for them: most light handlers never do."""

    def __init__(self, scratch: Path, task: Task) -> None:
        self._scratch = scratch
        self._task = task
        self.made: tuple[Path, Path] | None = None

    def folders(self) -> tuple[Path, Path]:
        if self.made is None:
            self.made = make_scratch(self._scratch, self._task)
        return self.made


class InlineContext(AttemptContext):
    """An attempt's context without folders until they are needed."""

    def __init__(self, lazy: LazyScratch, **given: Any) -> None:
        self._lazy = lazy
        super().__init__(scratch=Path(), job_scratch=Path(), **given)

    def __getattribute__(self, name: str) -> Any:
        if name == "scratch":
            return object.__getattribute__(self, "_lazy").folders()[0]
        if name == "job_scratch":
            return object.__getattribute__(self, "_lazy").folders()[1]
        return super().__getattribute__(name)


class InlineExecutor:
    """Runs attempts in a bounded thread pool; cancelling sets a flag that the handler sees."""

    def __init__(self, scratch: Path, storage: str) -> None:
        self.scratch = scratch
        self.storage = open_storage(storage)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="inline")

    async def start(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)

    async def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, task: Task, listener: Listener) -> Outcome:
        loop = asyncio.get_running_loop()
        cancelled = threading.Event()
        lazy = LazyScratch(self.scratch, task)

        def checkpoint(phase: int, data: dict[str, Any]) -> None:
            try:
                asyncio.run_coroutine_threadsafe(_await(listener.checkpoint(task, phase, data)), loop).result()
            except Cancelled:
                cancelled.set()

        context = InlineContext(
            lazy,
            task=task,
            storage=self.storage,
            on_progress=lambda percent, message: listener.progress(task, percent, message),
            on_log=lambda message, fields: listener.log(task, message, fields),
            on_checkpoint=checkpoint,
            is_cancelled=cancelled.is_set,
        )
        try:
            return await loop.run_in_executor(self._threads, run_attempt, handlers.load(task.handler), task, context)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        finally:
            if lazy.made is not None:
                shutil.rmtree(lazy.made[0], ignore_errors=True)


async def _await(awaitable: Any) -> Any:
    return await awaitable
