"""Virtual time: one heap of what happens next, processes that stand still and die, and hints that may get lost."""

from __future__ import annotations

import heapq
import itertools
import types
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = float("inf")

Work = Coroutine[Any, Any, Any]


@types.coroutine
def pause(seconds: float) -> Generator[float, None, None]:
    """Let virtual time pass; a process that is frozen or dead meanwhile goes on later or never."""
    yield seconds


class Actor:
    """A coroutine under way."""

    __slots__ = ("process", "turn", "work")

    def __init__(self, process: Process, work: Work) -> None:
        self.process = process
        self.work = work
        self.turn = 0
        """Which of its entries in the heap counts."""


class Process:
    """What lives, stands still and dies together, with a clock of its own that nobody can rely on."""

    def __init__(self, loop: Loop, name: str, drift: float = 0.0, skew: float = 0.0) -> None:
        self.loop = loop
        self.name = name
        self.rate = 1.0 + drift
        self.skew = skew
        """How wrong its wall clock is, in seconds."""
        self.born = loop.now
        self.alive = True
        self.frozen_until = 0.0
        self.stopped_clock = 0.0
        """Seconds that its monotonic clock did not see."""
        self.impaired_until = -1.0
        """Until when something was wrong with it or its connections, at the last fault."""
        self.actors: list[Actor] = []
        self.on_killed: list[Callable[[], None]] = []

    def clock(self) -> float:
        """Monotonic, from any start, a little fast or slow."""
        return (self.loop.now - self.born - self.stopped_clock) * self.rate + 1_000.0

    def spawn(self, work: Work) -> Actor:
        actor = Actor(self, work)
        if len(self.actors) > 32:
            self.actors = [each for each in self.actors if each.turn >= 0]
        self.actors.append(actor)
        self.loop.at(self.loop.now, actor)
        return actor

    def kill(self) -> None:
        """As if by SIGKILL: nothing that it was about to do happens any more."""
        if not self.alive:
            return
        self.alive = False
        self.impaired_until = NEVER
        for tell in list(self.on_killed):
            tell()
        for actor in self.actors:
            if actor.turn >= 0 and actor is not self.loop.current:
                actor.turn = -1
                actor.work.close()

    def freeze(self, seconds: float, *, clock_stops: bool) -> None:
        """As if by SIGSTOP, or, with a clock that stops too, as if its machine was suspended."""
        if not self.alive:
            return
        since = max(self.frozen_until, self.loop.now)
        self.frozen_until = max(since, self.loop.now + seconds)
        self.impaired_until = max(self.impaired_until, self.frozen_until)
        if clock_stops:
            self.stopped_clock += self.frozen_until - since

    def impair(self, seconds: float = 0.0) -> None:
        self.impaired_until = max(self.impaired_until, self.loop.now + seconds)


class Loop:
    """The one order in which everything happens."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.finished = False
        self.current: Actor | None = None
        self._heap: list[tuple[float, int, Actor | None, int, Callable[[], None] | None]] = []
        self._tie = itertools.count()

    def time(self) -> datetime:
        """The time of the store, the only one with authority."""
        return EPOCH + timedelta(seconds=self.now)

    def at(self, when: float, actor: Actor) -> None:
        heapq.heappush(self._heap, (when, next(self._tie), actor, actor.turn, None))

    def call_later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._tie), None, 0, act))

    def wake(self, actor: Actor) -> None:
        """Go on now instead of at the end of its pause."""
        if actor.turn >= 0:
            actor.turn += 1
            self.at(self.now, actor)

    def run(self, most_seconds: float, most_steps: int) -> bool:
        """Until `finished` is set; False when that did not happen in time."""
        heap, pop, push, tie = self._heap, heapq.heappop, heapq.heappush, self._tie
        while heap and not self.finished:
            when, _, actor, turn, act = pop(heap)
            if when > most_seconds or self.steps > most_steps:
                return False
            self.now = when
            if actor is None:
                assert act is not None
                act()
                continue
            if turn != actor.turn:
                continue
            process = actor.process
            if process.frozen_until > when:
                push(heap, (process.frozen_until, next(tie), actor, turn, None))
                continue
            self.current = actor
            self.steps += 1
            try:
                seconds = actor.work.send(None)
            except StopIteration:
                actor.turn = -1
                self.current = None
                continue
            self.current = None
            if not process.alive:
                actor.turn = -1
                actor.work.close()
                continue
            actor.turn = turn = actor.turn + 1
            push(heap, (when + seconds, next(tie), actor, turn, None))
        return self.finished

    def close(self, processes: list[Process]) -> None:
        """Nothing of it goes on."""
        for process in processes:
            process.alive = False
            for actor in process.actors:
                if actor.turn >= 0:
                    actor.turn = -1
                    actor.work.close()


class Bell:
    """The twin of the engine's bell in virtual time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._rung = False
        self._waiter: Actor | None = None

    def ring(self) -> None:
        self._rung = True
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            self._loop.wake(waiter)

    async def wait(self, timeout_seconds: float) -> bool:
        """True when it rang."""
        if not self._rung:
            self._waiter = self._loop.current
            await pause(timeout_seconds)
            self._waiter = None
        rung, self._rung = self._rung, False
        return rung
