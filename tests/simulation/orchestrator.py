"""A simulated process around the production orchestrator: its loop, its leases and its ticks are the real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import psycopg

from dagmaster.db.connect import Pool
from dagmaster.db.notify import EFFECTS, INBOX, TASKS
from dagmaster.engine.orchestrator import RECONNECT_SECONDS, Orchestrator
from dagmaster.engine.ownership import Ownership
from dagmaster.engine.tick import Tick
from dagmaster.errors import DatabaseUnreachable
from simulation.loop import Bell, Process, pause
from simulation.worker import SimWorker
from simulation.workflows import HANDLERS, Compiled
from simulation.world import Connection, Rates, World

CHANNELS = {INBOX: "inbox", TASKS: "tasks", EFFECTS: "effects"}
LISTEN_AGAIN_SECONDS = 1.0
SESSION_OUTLIVES = 0.3
"""How often the server does not notice at once that a process is gone."""


class SimOrchestrator(Orchestrator):
    """The production loop over a simulated connection, bell and clock."""

    def __init__(self, world: World, process: Process, worker: SimWorker | None) -> None:
        super().__init__("", cast(Pool, None), HANDLERS, worker, process.clock)
        self.world = world
        self.process = process
        self.ownership = Ownership(process.name, world.swarm.shards)
        self.ownership.liveness_key = world.number()
        self.ticks = Tick(process.name, HANDLERS, worker, process.clock)
        self.ticks.definitions = Compiled()
        self.bell = cast(Any, Bell(world.loop))
        self.notifier = cast(Any, self)
        self.on_stop = self.stop
        swarm = world.swarm
        self.table = Rates(
            swarm.kill, swarm.freeze, swarm.cut, swarm.unanswered, swarm.slow, swarm.mute, swarm.stop
        ).table()

    def tell(self, channel: str) -> None:
        """In place of the notifier."""
        self.world.hint(CHANNELS[channel])

    def connect(self) -> Connection:
        connection = Connection(self.world, self.process, self.table)
        connection.on_mute = self.be_deaf_and_mute
        connection.on_stop = self.on_stop
        return connection

    async def live(self) -> None:
        """What `run` does, with connections that are made here."""
        await pause(self.world.swarm.latency)
        self.listen()
        while not self._stopping:
            try:
                await self._turn_until_stopped(self.connect())
            except (psycopg.Error, DatabaseUnreachable):
                self._drop_everything()
                await pause(RECONNECT_SECONDS)

    def listen(self) -> None:
        """The session that hears hints, and shows that this process lives."""
        if self.process.alive:
            self.world.tables.sessions.add(self.ownership.liveness_key)
            self.ring()

    def be_deaf_and_mute(self) -> None:
        self.world.tables.sessions.discard(self.ownership.liveness_key)
        self.world.loop.call_later(LISTEN_AGAIN_SECONDS, self.listen)

    def hinted(self) -> None:
        """A notification came, if the session is there that hears it."""
        if self.ownership.liveness_key in self.world.tables.sessions:
            self.ring()

    def die(self) -> None:
        self._stopping = False
        if self.world.fate.random() >= SESSION_OUTLIVES:
            self.world.tables.sessions.discard(self.ownership.liveness_key)


def start_orchestrator(world: World) -> None:
    """A new orchestrator process, with a worker in it if this run has such; another one follows when it ends."""
    swarm = world.swarm
    process = world.process("orchestrator")
    worker = None
    if swarm.local:
        worker = SimWorker(world, process, replace(Rates(), slow=swarm.slow, cut=swarm.cut), swarm.slots, swarm.line)
    orchestrator = SimOrchestrator(world, process, worker)

    def again() -> None:
        seconds = 0.05 * 400 ** world.fate.random() if world.faulty else 0.5
        world.loop.call_later(seconds, lambda: start_orchestrator(world))

    def killed() -> None:
        orchestrator.die()
        again()

    async def stop_both() -> None:
        """The worker first, as in the local profile."""
        assert worker is not None
        await worker.gone()
        orchestrator.stop()

    def stop() -> None:
        if worker is None:
            orchestrator.stop()
        elif not worker.stopping:
            worker.stop()
            process.spawn(stop_both())

    async def live() -> None:
        await orchestrator.live()
        world.tables.sessions.discard(orchestrator.ownership.liveness_key)
        process.on_killed.remove(killed)
        process.kill()
        again()

    orchestrator.on_stop = stop
    process.on_killed.append(killed)
    world.listen("inbox", process, orchestrator.hinted)
    process.spawn(live())
    if worker is not None:
        worker.engine = orchestrator
        world.listen("tasks", process, worker.tasks_waiting)
        process.spawn(worker.live())
        process.spawn(worker.keep_leases())
