"""One seed from its circumstances to its verdict."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dagmaster.dag import decide
from dagmaster.engine import definitions, orchestrator, tick
from simulation.client import Client
from simulation.invariants import check_run
from simulation.loop import pause
from simulation.orchestrator import start_orchestrator
from simulation.publisher import start_publisher
from simulation.swarm import Mode, Swarm, draw
from simulation.watch import Violated, Watch
from simulation.worker import start_worker
from simulation.world import World

BOUND_SECONDS = 3_000.0
"""Virtual time within which every job has to end; the longest honest way there takes less than half of it."""
BOUND_STEPS = 100_000
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a seed."""

    seed: int
    mode: Mode
    swarm: Swarm
    violation: str | None
    faults: int
    steps: int
    seconds: float
    log: list[tuple[float, str]]


def simulate(seed: int, mode: Mode, swarm: Swarm | None = None, *, log: bool = False) -> Verdict:
    """Run one seed. The same seed in the same circumstances takes the same course, in any process."""
    swarm = swarm if swarm is not None else draw(seed, mode)
    world = World(f"{seed}/{mode}", swarm)
    if log:
        world.watch.log = []
    client = Client(world)
    with engine_set_up(world):
        try:
            start(world, client)
            if not world.loop.run(BOUND_SECONDS, BOUND_STEPS):
                raise Violated(
                    f"I1: not over after {world.loop.now:.0f} s and {world.loop.steps} steps: {unfinished(world)}"
                )
            check_run(world.tables, world.watch, client.acknowledged)
            violation = None
        except Violated as problem:
            violation = str(problem)
        except Exception:  # noqa: BLE001  # whatever breaks the run is a finding, and the seed shows it again
            violation = traceback.format_exc(limit=-8)
        finally:
            world.loop.close(world.processes)
    return Verdict(
        seed, mode, swarm, violation, world.faults.total(), world.loop.steps, world.loop.now, world.watch.log or []
    )


def start(world: World, client: Client) -> None:
    swarm = world.swarm
    for _ in range(swarm.orchestrators):
        start_orchestrator(world)
    for _ in range(swarm.workers):
        start_worker(world)
    for _ in range(swarm.publishers):
        start_publisher(world)
    world.process("client").spawn(client.live())
    world.process("referee").spawn(referee(world, client))


async def referee(world: World, client: Client) -> None:
    """End the run when nothing is left to do and nothing more can come."""
    while not (client.done and not world.running and world.tables.quiet):
        await pause(LOOK_SECONDS)
    world.loop.finished = True


def unfinished(world: World) -> str:
    """What the bound found still open."""
    tables = world.tables
    jobs = [f"{job.job_id} {job.status}" for job in tables.jobs.values() if job.finished_at is None]
    open_nodes = [
        f"{job.job_id} {key} {node.status}/{node.attempt}"
        for job in tables.jobs.values()
        if job.finished_at is None
        for key, node in job.nodes.items()
        if not node.terminal
    ]
    messages = [row for inbox in tables.inbox for row in inbox.values()]
    return (
        f"jobs {jobs}, nodes {open_nodes}, messages {messages[:3]}, to publish {list(tables.outbox)}, "
        f"queued {list(tables.waiting)}, under way {world.running}"
    )


@contextlib.contextmanager
def engine_set_up(world: World) -> Iterator[None]:
    """The engine's bounds as this run wants them, and its log under the eyes of the witness."""
    log: Any = Listener(world.watch)
    places: list[tuple[Any, str, Any]] = [
        (tick, "CONSUMED_BATCH", world.swarm.look_limit),
        (decide, "CHILDREN_LIVE_MAX", world.swarm.live_max),
        *((module, "log", log) for module in (tick, orchestrator, definitions)),
    ]
    before = [getattr(module, name) for module, name, _ in places]
    try:
        for module, name, value in places:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)


class Listener:
    """Stands in for the engine's log: what the engine reports as a fault of its own is one."""

    EXPECTED = frozenset(
        {
            "database lost",
            "shards lost",
            "shards gained",
            "tick refused",
            "a tick cannot be written; each of its jobs is written alone",
            "job given up: its decision cannot be written",
            "report refused by the database",
        }
    )

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def say(self, event: str, **facts: Any) -> None:
        self.watch.note(f"engine: {event} {facts}")
        job_id = facts.get("job_id")
        if event not in self.EXPECTED and (job_id is None or job_id not in self.watch.poisoned):
            self.watch.object(f"engine: {event} {facts}\n{traceback.format_exc(limit=-6)}")

    debug = info = warning = error = exception = say
