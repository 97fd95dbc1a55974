"""What all processes of one run share: the tables, hints between them, connections, and what goes wrong with those."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import psycopg

from dagmaster.contract.decisions import JobSnapshot
from dagmaster.contract.messages import Key
from dagmaster.contract.store import Batch, Fence, Survey, Turn
from simulation.loop import Bell, Loop, Process, pause
from simulation.swarm import Swarm
from simulation.tables import NUL, Tables, text_of
from simulation.watch import Watch

T = TypeVar("T")

SLOW_FACTOR = 100
IDLE_SHARE = 0.5
"""Calls that write nothing meet faults so much less often, because most calls are of this kind."""
LOCK_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Rates:
    """What may go wrong at a call of one kind of process, 0 to 1 each."""

    kill: float = 0.0
    freeze: float = 0.0
    cut: float = 0.0
    unanswered: float = 0.0
    slow: float = 0.0
    mute: float = 0.0
    stop: float = 0.0

    def table(self) -> tuple[tuple[float, str], ...]:
        """Upper bounds of one draw, and what it means below each."""
        bound, table = 0.0, []
        for name in ("kill", "freeze", "cut", "unanswered", "slow", "mute", "stop"):
            bound += getattr(self, name)
            table.append((bound, name))
        return tuple(table)


class World:
    """One run."""

    def __init__(self, seed: str, swarm: Swarm) -> None:
        self.swarm = swarm
        self.loop = Loop()
        self.watch = Watch(self.loop, swarm)
        self.tables = Tables(self.loop, swarm.shards, self.watch)
        self.rng = random.Random(f"{seed} work")
        self.fate = random.Random(f"{seed} fate")
        self.faults: Counter[str] = Counter()
        self.processes: list[Process] = []
        self.connections: list[Connection] = []
        self.listeners: dict[str, list[tuple[Process, Callable[[], None]]]] = {"inbox": [], "tasks": [], "effects": []}
        self.running = 0
        """Attempts under way, and messages that are still to come."""
        self._numbers: Counter[str] = Counter()

    @property
    def faulty(self) -> bool:
        return self.loop.now < self.swarm.faults_until

    def process(self, role: str) -> Process:
        """A new process, with a name that no other has had."""
        self._numbers[role] += 1
        drift = self.swarm.drift * self.fate.uniform(-1, 1)
        process = Process(self.loop, f"{role}-{self._numbers[role]}", drift, self.fate.uniform(-3600, 3600))
        self.processes = [each for each in self.processes if each.alive]
        self.processes.append(process)
        return process

    def number(self) -> int:
        self._numbers["number"] += 1
        return self._numbers["number"]

    # --- hints ---------------------------------------------------------------------------------------------

    def listen(self, channel: str, process: Process, ring: Callable[[], None]) -> None:
        self.listeners[channel] = [(each, bell) for each, bell in self.listeners[channel] if each.alive]
        self.listeners[channel].append((process, ring))

    def hint(self, channel: str) -> None:
        """Whoever listens hears of it a moment later, or does not."""
        for process, ring in self.listeners[channel]:
            if process.alive and not self.happens(self.swarm.deaf, "deaf"):
                self.loop.call_later(self.swarm.latency, ring)

    # --- faults --------------------------------------------------------------------------------------------

    def happens(self, rate: float, what: str) -> bool:
        """Whether a fault of this rate is met now."""
        if not rate or not self.faulty or self.fate.random() >= rate:
            return False
        self.faults[what] += 1
        return True

    def cut_everything(self) -> None:
        """The database is restarted."""
        self.faults["outage"] += 1
        self.watch.note("all connections are cut")
        for connection in self.connections:
            connection.cut()
        self.connections.clear()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """A message that is on its way; the run does not end before it has come."""
        self.running += 1

        def come() -> None:
            self.running -= 1
            act()

        self.loop.call_later(seconds, come)


class Connection:
    """The `OrchestratorStore` of one process, and all that workers and publishers ask, over a wire that may fail."""

    def __init__(self, world: World, process: Process, table: tuple[tuple[float, str], ...]) -> None:
        self.world = world
        self.process = process
        self.table = table
        self.broken = False
        self.on_mute: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None
        world.connections.append(self)

    def cut(self) -> None:
        self.broken = True
        self.process.impair()

    async def call(self, act: Callable[[], T], *, writes: bool = True, free: Callable[[], bool] | None = None) -> T:
        """One transaction: the request travels, waits for locks, takes effect at one moment, and is answered."""
        world, process = self.world, self.process
        if self.broken or not process.alive:
            raise psycopg.OperationalError("the connection is lost")
        seconds = world.swarm.latency * (0.5 + world.fate.random())
        fault = self.fault(writes) if world.loop.now < world.swarm.faults_until else None
        early = fault is not None and world.fate.random() < 0.5
        if fault is not None:
            world.watch.note(f"{process.name}: {fault} {'before' if early else 'after'}")
        if fault == "cut":
            await pause(seconds)
            self.cut()
            raise psycopg.OperationalError("the connection was cut")
        if fault == "slow":
            seconds *= SLOW_FACTOR
            process.impair(2 * seconds)
        if early:
            await self.meet(fault)
        await pause(seconds)
        while free is not None and not free():
            await pause(LOCK_LOOK_SECONDS)
        if self.broken:
            raise psycopg.OperationalError("the connection was cut")
        result = act()
        if fault == "unanswered":
            await pause(seconds)
            self.cut()
            raise psycopg.OperationalError("the connection was cut before the answer came")
        if fault is not None and not early:
            await self.meet(fault)
        await pause(seconds)
        if self.broken:
            raise psycopg.OperationalError("the connection was cut before the answer came")
        return result

    def fault(self, writes: bool) -> str | None:
        table = self.table
        drawn = self.world.fate.random()
        if not writes:
            drawn /= IDLE_SHARE
        if drawn >= table[-1][0]:
            return None
        found = next(name for bound, name in table if drawn < bound)
        self.world.faults[found] += 1
        return found

    async def meet(self, fault: str | None) -> None:
        """What happens to the whole process while the call is under way."""
        world, process = self.world, self.process
        if fault == "kill":
            process.kill()
            await pause(0)
        elif fault == "freeze":
            seconds = world.swarm.freeze_seconds * (0.5 + world.fate.random())
            process.freeze(seconds, clock_stops=world.fate.random() < 0.3)
            await pause(0)
        elif fault == "mute":
            self.on_mute()
        elif fault == "stop":
            self.on_stop()

    # --- what the engine asks ------------------------------------------------------------------------------

    async def turn(self, fence: Fence, batch: Batch | None, look: Sequence[int], limit: int) -> Turn:
        tables = self.world.tables
        if batch is None:
            return await self.call(lambda: tables.turn(fence, None, look, limit), writes=False)
        if not any(decision.revoked for decision in batch.decisions):
            return await self.call(lambda: tables.turn(fence, batch, look, limit))
        held = [tables.shards[shard] for shard in batch.shards]
        waits = False

        def free() -> bool:
            """A tick that waits for a publisher keeps takeovers of its shards waiting."""
            nonlocal waits
            if tables.locked(batch) != waits:
                waits = not waits
                for shard in held:
                    shard.held += 1 if waits else -1
            return not waits

        try:
            return await self.call(lambda: tables.turn(fence, batch, look, limit), free=free)
        finally:
            if waits:
                for shard in held:
                    shard.held -= 1

    async def load(self, job_ids: Sequence[str]) -> list[JobSnapshot]:
        return await self.call(lambda: self.world.tables.load(job_ids), writes=False)

    async def task_leases(self, keys: Sequence[tuple[str, Key]]) -> dict[tuple[str, Key], tuple[int, Any]]:
        return await self.call(lambda: self.world.tables.task_leases(keys), writes=False)

    async def definitions(self, digests: Sequence[str]) -> dict[str, Any]:
        return await self.call(lambda: self.world.tables.definitions(digests), writes=False)

    async def live_jobs(self, held: Sequence[int]) -> list[str]:
        return await self.call(lambda: self.world.tables.live_jobs(held), writes=False)

    async def make_event_partitions(self) -> None:
        pass

    async def send(self, job_id: str, kind: str, body: dict[str, Any]) -> bool:
        return await self.call(lambda: self.world.tables.send(job_id, kind, storable(body)))

    async def renew(self, owner: str, liveness_key: int, lease: timedelta) -> tuple[dict[int, int], Survey]:
        """Two statements, one after the other."""
        tables = self.world.tables
        held = await self.call(lambda: tables.renew_shards(owner, liveness_key, lease), writes=False)
        return held, await self.call(tables.survey, writes=False)

    async def take(self, owner: str, wanted: Sequence[int], lease: timedelta) -> dict[int, int]:
        tables = self.world.tables
        return await self.call(
            lambda: tables.take(owner, wanted, lease),
            free=lambda: not any(tables.shards[shard].held for shard in wanted),
        )

    async def release(self, owner: str, held: Sequence[int]) -> None:
        await self.call(lambda: self.world.tables.release(owner, held))

    async def leave(self, owner: str) -> None:
        await self.call(lambda: self.world.tables.leave(owner))


def storable(body: dict[str, Any]) -> dict[str, Any]:
    """Errors: psycopg.DataError for what a jsonb column refuses."""
    if NUL in text_of(body):
        raise psycopg.DataError("unsupported Unicode escape sequence")
    return body


__all__ = ["Bell", "Connection", "Rates", "World", "storable"]
