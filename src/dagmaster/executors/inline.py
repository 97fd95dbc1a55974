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
from time import monotonic
from typing import Any

from dagmaster import handlers
from dagmaster.contract.messages import Task
from dagmaster.errors import Cancelled
from dagmaster.executors.attempt import AttemptContext, make_scratch, run_attempt
from dagmaster.executors.base import Listener, Outcome
from dagmaster.storages import open_storage

THREADS = 16
STUCK_SECONDS = 0.004
"""When no call has ended for this long, the waiting ones get threads of their own."""
NOWHERE = Path()


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
        super().__init__(scratch=NOWHERE, job_scratch=NOWHERE, **given)

    def __getattribute__(self, name: str) -> Any:
        if name == "scratch":
            return object.__getattribute__(self, "_lazy").folders()[0]
        if name == "job_scratch":
            return object.__getattribute__(self, "_lazy").folders()[1]
        return super().__getattribute__(name)


class Threads:
    """Up to `count` threads, started when needed. One that sleeps on does not keep the process from ending.

    One thread does all there is to do, as long as it gets on: short calls in many threads only wait for each other.
    When nothing has ended for a moment, all threads that have something to do join in. Results come back in bulk.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._started = 0
        self._parked = 0
        self._active = 0
        self._ended = 0
        """Calls that have ended, ever."""
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._permits: SimpleQueue[bool] = SimpleQueue()
        """A parked thread takes one of these to go to work; False ends it."""
        self._done: deque[tuple[_Job, Outcome]] = deque()
        self._told = False
        """The event loop knows that there are results."""
        self._watching = False

    def submit(self, work: Callable[[], Outcome]) -> _Job:
        """Run `work`, which never raises, in the next free thread."""
        loop = asyncio.get_running_loop()
        job = _Job(work, loop)
        self._waiting.append(job)
        with self._lock:
            if self._active == 0:
                self._activate(1)
        if not self._watching:
            self._watching = True
            loop.call_later(STUCK_SECONDS, self._watch, loop, self._ended)
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
            self._permits.put(False)

    def _watch(self, loop: asyncio.AbstractEventLoop, ended: int) -> None:
        """Let more threads work when the ones at work do not get on."""
        with self._lock:
            waiting = len(self._waiting)
            if waiting and self._ended == ended:
                self._activate(min(waiting, self._count - self._active))
            self._watching = waiting > 0
        if self._watching:
            loop.call_later(STUCK_SECONDS, self._watch, loop, self._ended)

    def _activate(self, count: int) -> None:
        """Send so many more threads to work; the lock is held."""
        for _ in range(count):
            self._active += 1
            if self._parked:
                self._parked -= 1
            else:
                self._started += 1
                threading.Thread(target=self._serve, name=f"inline-{self._started}", daemon=True).start()
            self._permits.put(True)

    def _serve(self) -> None:
        while self._permits.get():
            while (job := self._next()) is not None:
                outcome = job.work()
                if self._end(job, outcome):
                    return

    def _next(self) -> _Job | None:
        """The next call that is still wanted; None = nothing to do, and this thread no longer counts as active."""
        with self._lock:
            while self._waiting:
                job = self._waiting.popleft()
                if not job.future.cancelled():
                    job.begun = True
                    return job
            self._active -= 1
            self._parked += 1
            return None

    def _end(self, job: _Job, outcome: Outcome) -> bool:
        """Hand the result over; True when this thread was given up meanwhile and shall end."""
        with self._lock:
            self._ended += 1
            job.ended = True
            if job.abandoned:
                self._count -= 1
                self._started -= 1
                self._active -= 1
                return True
            self._done.append((job, outcome))
            tell, self._told = not self._told, True
        if tell:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                job.loop.call_soon_threadsafe(self._hand_back)
        return False

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


class Flag:
    """Down, then up; seen by every thread."""

    __slots__ = ("up",)

    def __init__(self) -> None:
        self.up = False


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
        cancelled = Flag()
        lazy = LazyScratch(self.scratch, task)

        def checkpoint(phase: int, data: dict[str, Any]) -> None:
            try:
                asyncio.run_coroutine_threadsafe(_await(listener.checkpoint(task, phase, data)), loop).result()
            except Cancelled:
                cancelled.up = True

        context = InlineContext(
            lazy,
            task=task,
            storage=self.storage,
            on_progress=lambda percent, message: listener.progress(task, percent, message),
            on_log=lambda message, fields: listener.log(task, message, fields),
            on_checkpoint=checkpoint,
            is_cancelled=lambda: cancelled.up,
        )

        def attempt() -> Outcome:
            begun_at = monotonic()
            listener.begun(task)
            outcome = run_attempt(handler, task, context)
            return outcome._replace(seconds=monotonic() - begun_at)

        handler = handlers.load(task.handler)
        job = self._threads.submit(attempt)
        try:
            return await job.future
        except asyncio.CancelledError:
            cancelled.up = True
            self._threads.abandon(job)
            raise
        finally:
            if lazy.made is not None:
                shutil.rmtree(lazy.made[0], ignore_errors=True)


async def _await(awaitable: Any) -> Any:
    return await awaitable
