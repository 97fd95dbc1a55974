"""Attempts of trusted, light handlers in threads of this process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
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
    """Up to `count` threads, started when needed. One that sleeps on does not keep the process from ending.

    Results come back in bulk: many attempts that end together wake the event loop once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._started = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[_Job, Outcome]] = deque()
        self._told = False
        """The event loop knows that there are results."""

    def submit(self, work: Callable[[], Outcome]) -> _Job:
        """Run `work`, which never raises, in the next free thread."""
        job = _Job(work, asyncio.get_running_loop())
        self._waiting.put(job)
        with self._lock:
            short = self._idle < self._waiting.qsize() and self._started < self._count
            self._started += short
        if short:
            threading.Thread(target=self._serve, name=f"inline-{self._started}", daemon=True).start()
        return job

    def abandon(self, job: _Job) -> None:
        """Nobody waits for it any more: while it goes on, another thread may work in its place."""
        with self._lock:
            if job.begun and not job.ended:
                job.abandoned = True
                self._count += 1

    def stop(self) -> None:
        """Let idle threads end."""
        for _ in range(self._started):
            self._waiting.put(None)

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._waiting.get()
            with self._lock:
                self._idle -= 1
                if job is None:
                    return
                job.begun = not job.future.cancelled()
            if not job.begun:
                continue
            outcome = job.work()
            with self._lock:
                job.ended = True
                if job.abandoned:
                    self._count -= 1
                    self._started -= 1
                    return
                self._done.append((job, outcome))
                tell, self._told = not self._told, True
            if tell:
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                    job.loop.call_soon_threadsafe(self._hand_back)

    def _hand_back(self) -> None:
        with self._lock:
            self._told = False
            done, self._done = self._done, deque()
        for job, outcome in done:
            if not job.future.done():
                job.future.set_result(outcome)


class _Job:
    """One call on its way through a thread."""

    __slots__ = ("abandoned", "begun", "ended", "future", "loop", "work")

    def __init__(self, work: Callable[[], Outcome], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Outcome] = loop.create_future()
        self.begun = self.ended = self.abandoned = False


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

        def attempt() -> Outcome:
            listener.begun(task)
            return run_attempt(handler, task, context)

        handler = handlers.load(task.handler)
        job = self._threads.submit(attempt)
        try:
            return await job.future
        except asyncio.CancelledError:
            cancelled.set()
            self._threads.abandon(job)
            raise
        finally:
            if lazy.made is not None:
                shutil.rmtree(lazy.made[0], ignore_errors=True)


async def _await(awaitable: Any) -> Any:
    return await awaitable
