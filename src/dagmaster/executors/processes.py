"""Attempts in warm child processes of this machine: one task at a time each, limited, without credentials."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import structlog

from dagmaster.contract.messages import Task
from dagmaster.errors import Cancelled, HandlerCrashed, HandlerOutputInvalid, OutOfMemory
from dagmaster.executors.attempt import make_scratch, storable
from dagmaster.executors.base import Listener, Outcome
from dagmaster.executors.child import END_OF_TALK, FRAME_BYTES_MAX, HEADER
from dagmaster.executors.limits import Limits, before_exec, child_environment, python

GRACE_SECONDS = 5.0
"""Between asking a child to stop and killing it."""
TALK_SECONDS = 2.0
"""For the last printed lines to arrive, once an attempt has ended."""
TASKS_PER_CHILD = 100
LOG_LINE_BYTES_MAX = 64 * 1024

log = structlog.get_logger("dagmaster.executor")


class ChildGone(Exception):
    """The child ended before it answered."""


class ChildProcess:
    """One warm child and the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer
        self.tasks_done = 0

    @classmethod
    async def spawn(cls, limits: Limits, environment: Mapping[str, str], preload: Sequence[str]) -> ChildProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                python(),
                "-m",
                "dagmaster.executors.child",
                str(theirs.fileno()),
                *preload,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=child_environment(environment),
                start_new_session=True,
                preexec_fn=before_exec(limits),
                limit=LOG_LINE_BYTES_MAX,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    async def receive(self) -> dict[str, Any]:
        try:
            (size,) = HEADER.unpack(await self.reader.readexactly(HEADER.size))
            if size > FRAME_BYTES_MAX:
                raise HandlerOutputInvalid(problem=f"{size} bytes, more than {FRAME_BYTES_MAX}")
            return orjson.loads(await self.reader.readexactly(size))  # type: ignore[no-any-return]
        except (asyncio.IncompleteReadError, ConnectionError) as problem:
            raise ChildGone from problem

    async def send(self, message: dict[str, Any]) -> None:
        body = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS)
        try:
            self.writer.write(HEADER.pack(len(body)) + body)
            await self.writer.drain()
        except ConnectionError as problem:
            raise ChildGone from problem

    async def end(self, *, grace_seconds: float) -> None:
        """Ask the child's whole process group to stop, then make it."""
        self.writer.close()
        if self.process.returncode is None and grace_seconds > 0:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), grace_seconds)
        self._signal(signal.SIGKILL)
        await self.process.wait()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class ProcessExecutor:
    """A pool of warm children; a child that was stopped, died or has done enough is replaced."""

    def __init__(
        self,
        *,
        size: int,
        scratch: Path,
        storage: str,
        environment: Mapping[str, str],
        limits: Limits,
        preload: Sequence[str] = (),
        homes: Mapping[str, str] | None = None,
    ) -> None:
        self.size = size
        self.scratch = scratch.absolute()
        self.storage = storage
        self.environment = environment
        self.limits = limits
        self.preload = preload
        self.homes = homes or {}
        """Where the handlers from outside are loaded from, by name."""
        self._idle: list[ChildProcess] = []
        self._all: set[ChildProcess] = set()
        self._warming: set[asyncio.Task[HandlerCrashed | None]] = set()
        self._cleaning: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Warm the pool in the background; a task that comes earlier waits for its child alone."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        for _ in range(self.size):
            self._warm()

    async def stop(self) -> None:
        """End every child; one that is being born is waited for, because a half-born one cannot be found."""
        self._stopping = True
        await asyncio.gather(*self._warming, *self._cleaning, return_exceptions=True)
        await asyncio.gather(*(child.end(grace_seconds=GRACE_SECONDS) for child in list(self._all)))
        self._idle.clear()
        self._all.clear()

    async def run(self, task: Task, listener: Listener) -> Outcome:
        own, shared = make_scratch(self.scratch, task)
        child: ChildProcess | None = None
        healthy = False
        try:
            child = await self._take()
            outcome, healthy = await self._attempt(child, task, own, shared, listener)
            return outcome
        except HandlerCrashed as error:
            return Outcome(False, error=storable(error.as_dict()))
        finally:
            await self._surely(self._clean_up(child, own, healthy=healthy))

    # --- one attempt -------------------------------------------------------------------------------

    async def _attempt(
        self, child: ChildProcess, task: Task, own: Path, shared: Path, listener: Listener
    ) -> tuple[Outcome, bool]:
        """How the attempt ended, and whether the child may run another."""
        talk = asyncio.create_task(self._relay_output(child, task, listener))
        try:
            outcome = await self._converse(child, task, own, shared, listener)
            return outcome, await self._heard_out(talk) and not _ran_out_of_memory(outcome)
        except ChildGone:
            code = await child.process.wait()
            await self._heard_out(talk)
            return Outcome(False, error=self._cause_of_death(code)), False
        except HandlerOutputInvalid as error:
            return Outcome(False, error=error.as_dict()), False
        finally:
            talk.cancel()

    async def _converse(self, child: ChildProcess, task: Task, own: Path, shared: Path, listener: Listener) -> Outcome:
        request = {
            "task": asdict(task) | {"key": list(task.key)},
            "scratch": str(own),
            "job_scratch": str(shared),
            "storage": self.storage,
            "home": self.homes.get(task.handler),
        }
        listener.begun(task)
        await child.send(request)
        while True:
            said = await child.receive()
            match said["kind"]:
                case "progress":
                    listener.progress(task, said["percent"], said["message"])
                case "log":
                    listener.log(task, said["message"], said["fields"])
                case "checkpoint":
                    await child.send({"saved": await self._saved(task, said, listener)})
                case "done":
                    return Outcome(said["completed"], said["output"], said["error"], tuple(said["effects"]))

    async def _saved(self, task: Task, said: dict[str, Any], listener: Listener) -> bool:
        try:
            await listener.checkpoint(task, said["phase"], said["data"])
        except Cancelled:
            return False
        return True

    async def _relay_output(self, child: ChildProcess, task: Task, listener: Listener) -> None:
        """What a handler or a library prints becomes log lines of the attempt, until its end is said."""
        assert child.process.stdout is not None
        end = END_OF_TALK + task.token
        while True:
            try:
                line = await child.process.stdout.readline()
            except ValueError:
                continue
            text = line.decode(errors="replace").rstrip()
            if said := text.removesuffix(end):
                listener.log(task, storable(said), {"stream": "stdout"})
            if not line or text.endswith(end):
                return

    async def _heard_out(self, talk: asyncio.Task[None]) -> bool:
        """Wait for the last printed lines; False when their end does not come."""
        return bool((await asyncio.wait([talk], timeout=TALK_SECONDS))[0])

    def _cause_of_death(self, code: int) -> dict[str, Any]:
        if code == -signal.SIGKILL:
            return OutOfMemory(
                limit_mib=self.limits.memory_mib,
                why="The process was killed from outside, as a host short of memory does.",
            ).as_dict()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return HandlerCrashed(cause=cause).as_dict()

    # --- the pool ----------------------------------------------------------------------------------

    async def _take(self) -> ChildProcess:
        """An idle child, or the next one that has started. Errors: HandlerCrashed when it does not start."""
        while True:
            while self._idle:
                child = self._idle.pop()
                if child.process.returncode is None:
                    return child
                await self._dispose(child, grace_seconds=0)
            done, _ = await asyncio.wait(self._warming or {self._warm()}, return_when=asyncio.FIRST_COMPLETED)
            for warming in done:
                if (error := warming.result()) is not None:
                    raise error

    async def _spawn(self) -> ChildProcess:
        child = await ChildProcess.spawn(self.limits, self.environment, self.preload)
        self._all.add(child)
        try:
            await child.receive()
        except ChildGone:
            output = await child.process.stdout.read() if child.process.stdout else b""
            await self._dispose(child, grace_seconds=0)
            raise HandlerCrashed(cause="a fault at start", why=output.decode(errors="replace")[-2000:]) from None
        return child

    def _warm(self) -> asyncio.Task[HandlerCrashed | None]:
        """Start another child; the task returns the error when that fails."""

        async def warm() -> HandlerCrashed | None:
            try:
                self._idle.append(await self._spawn())
            except OSError as problem:
                error = HandlerCrashed(cause="a fault at start", why=str(problem))
            except HandlerCrashed as problem:
                error = problem
            else:
                return None
            log.error("child did not start", why=error.why)
            return error

        warming = asyncio.create_task(warm())
        self._warming.add(warming)
        warming.add_done_callback(self._warming.discard)
        return warming

    async def _clean_up(self, child: ChildProcess | None, own: Path, *, healthy: bool) -> None:
        """Keep a child that is fit for more and replace any other; then nobody writes to the attempt's folder."""
        if child is not None:
            child.tasks_done += 1
            if healthy and child.tasks_done < TASKS_PER_CHILD:
                self._idle.append(child)
            else:
                await self._dispose(child, grace_seconds=0 if healthy else GRACE_SECONDS)
                if not self._stopping:
                    self._warm()
        await asyncio.to_thread(shutil.rmtree, own, True)

    async def _dispose(self, child: ChildProcess, *, grace_seconds: float) -> None:
        self._all.discard(child)
        await child.end(grace_seconds=grace_seconds)

    async def _surely(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to its end, however often the waiting task is cancelled."""
        doing = asyncio.create_task(work)
        self._cleaning.add(doing)
        doing.add_done_callback(self._cleaning.discard)
        await asyncio.shield(doing)


def _ran_out_of_memory(outcome: Outcome) -> bool:
    """What filled the child's memory may still be there, and the next attempt would pay for it."""
    return outcome.error is not None and outcome.error["code"] == OutOfMemory.code
