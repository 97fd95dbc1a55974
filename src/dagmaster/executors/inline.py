"""Attempts of trusted, light handlers in threads of this process."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
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


class Threads:
    """Up to `count` threads, started when needed. One that sleeps on does not keep the process from ending."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._waiting: SimpleQueue[tuple[Future[Outcome], Callable[[], Outcome]] | None] = SimpleQueue()

    def submit(self, work: Callable[[], Outcome]) -> Future[Outcome]:
        """Run `work`, which never raises, in the next free thread."""
        future: Future[Outcome] = Future()
        self._waiting.put((future, work))
        if not self._idle.acquire(blocking=False) and self._started < self._count:
            self._started += 1
            threading.Thread(target=self._serve, name=f"inline-{self._started}", daemon=True).start()
        return future

    def stop(self) -> None:
        """Let idle threads end."""
        for _ in range(self._started):
            self._waiting.put(None)

    def _serve(self) -> None:
        while (given := self._next()) is not None:
            future, work = given
            if future.set_running_or_notify_cancel():
                future.set_result(work())

    def _next(self) -> tuple[Future[Outcome], Callable[[], Outcome]] | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            self._idle.release()
            return self._waiting.get()


class InlineExecutor:
    """Runs attempts in a bounded thread pool; cancelling sets a flag that the handler sees."""

    def __init__(self, scratch: Path, storage: str) -> None:
        self.scratch = scratch.absolute()
        self.storage = open_storage(storage)
        self._threads = Threads(THREADS)

    async def start(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)

    async def stop(self) -> None:
        self._threads.stop()

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
            handler = handlers.load(task.handler)
            return await asyncio.wrap_future(self._threads.submit(lambda: run_attempt(handler, task, context)))
        except asyncio.CancelledError:
            cancelled.set()
            raise
        finally:
            if lazy.made is not None:
                shutil.rmtree(lazy.made[0], ignore_errors=True)


async def _await(awaitable: Any) -> Any:
    return await awaitable
