"""Faults under load, with sizes as arguments: short in the default run, long in `make chaos`."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

import invariants
from acceptance.fleet import Fleet
from dagmaster.dag.definition import Definition, load
from dagmaster.db.embedded import EmbeddedPostgres
from waiting import eventually

READY_SECONDS = 60
TAKEOVER_SECONDS_MAX = 10
RESUME_SECONDS_MAX = 5


def tree(width: int = 4) -> Definition:
    """A dozen nodes: a chain, a fan-out with its fan-in, and a chain again."""
    return load(
        f"""
workflow_id: tree
name: Tree
version: 1
nodes:
  start: {{type: start, next: a}}
  a: {{handler: echo, params: {{n: 1}}, next: b}}
  b: {{handler: echo, params: {{n: 2}}, next: split}}
  split: {{type: fan_out, source: {list(range(width))}, task: {{handler: echo, params: {{n: "{{{{ item }}}}"}}}}, next: merge}}
  merge: {{type: fan_in, aggregation: count, next: c}}
  c: {{handler: sleep, params: {{duration_seconds: 0.05}}, next: d}}
  d: {{handler: echo, params: {{n: 3}}, next: end}}
  end: {{type: end}}
""",
        "tree.yaml",
    )


@dataclass
class Course:
    """What a scenario did and saw."""

    seed: int
    faults: int = 0
    unowned_seconds_max: float = 0.0
    notes: list[str] = field(default_factory=list)


class Sampler:
    """How long any shard was without a live owner."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.since: dict[int, float] = {}
        self.longest = 0.0

    def look(self) -> None:
        now = time.monotonic()
        rows = self.fleet.query(
            "SELECT s.shard, s.lease_until > now() AND s.owner = ANY (%s) FROM dagmaster.shard s", self.living()
        )
        for shard, owned in rows:
            if owned:
                self.since.pop(shard, None)
            else:
                self.longest = max(self.longest, now - self.since.setdefault(shard, now))

    def living(self) -> list[str]:
        """Orchestrators whose process is there: their names end in their process id."""
        alive = {str(process.pid) for process in self.fleet.processes if process.poll() is None}
        rows = self.fleet.query("SELECT orchestrator_id FROM dagmaster.orchestrator")
        return [name for (name,) in rows if set(name.replace(":", "-").split("-")) & alive]


def finished(fleet: Fleet, jobs: int) -> bool:
    return fleet.query("SELECT count(*) FROM dagmaster.job WHERE finished_at IS NOT NULL") == [(jobs,)]


def until_finished(fleet: Fleet, jobs: int) -> None:
    eventually(lambda: finished(fleet, jobs), 120)


def until_it_goes_on(fleet: Fleet, jobs: int) -> None:
    """Something moves, unless everything has ended."""
    ((before,),) = fleet.query("SELECT count(*) FROM dagmaster.event")
    eventually(lambda: finished(fleet, jobs) or fleet.query("SELECT count(*) FROM dagmaster.event") > [(before,)], 30)


async def kill_orchestrators(fleet: Fleet, *, jobs: int, kills: int, pause: tuple[float, float], seed: int) -> Course:
    """K1: kill -9 of one of three again and again, while jobs run; each is followed by a new one."""
    rng, course = random.Random(seed), Course(seed)
    orchestrators = [fleet.start("orchestrator") for _ in range(3)]
    fleet.start("worker", "--processes", "1")
    eventually(lambda: len(fleet.shares()) == 3, READY_SECONDS)
    sampler = Sampler(fleet)
    acknowledged = await fleet.submit(*[tree()] * jobs)
    while course.faults < kills:
        victim = rng.randrange(3)
        os.killpg(orchestrators[victim].pid, signal.SIGKILL)
        orchestrators[victim].wait()
        course.faults += 1
        orchestrators[victim] = fleet.start("orchestrator")
        until = time.monotonic() + rng.uniform(*pause)
        while time.monotonic() < until:
            sampler.look()
            await anyio.sleep(0.05)
        if finished(fleet, len(acknowledged)) and course.faults < kills:
            acknowledged += await fleet.submit(*[tree()] * max(1, jobs // 10))
    until_finished(fleet, len(acknowledged))
    course.unowned_seconds_max = sampler.longest
    assert sampler.longest < TAKEOVER_SECONDS_MAX, course
    settled(fleet, acknowledged)
    assert not [line for line in invariants.retries(fleet.uri) if line[0] not in ("LOST", "RELEASED")], course
    return course


async def freeze(fleet: Fleet, *, jobs: int, pauses: int, seconds: float, seed: int) -> Course:
    """K3: an orchestrator stands still for longer than its lease, and wakes up as a former owner."""
    rng, course = random.Random(seed), Course(seed)
    orchestrators = [fleet.start("orchestrator") for _ in range(2)]
    fleet.start("worker", "--processes", "1")
    eventually(lambda: fleet.shares() == [32, 32], READY_SECONDS)
    acknowledged: list[str] = []
    for _ in range(pauses):
        acknowledged += await fleet.submit(*[tree()] * jobs)
        frozen = rng.choice(orchestrators)
        os.kill(frozen.pid, signal.SIGSTOP)
        course.faults += 1
        began = time.monotonic()
        eventually(lambda: fleet.shares() == [64], TAKEOVER_SECONDS_MAX + 5)
        course.unowned_seconds_max = max(course.unowned_seconds_max, time.monotonic() - began)
        await anyio.sleep(max(0.0, began + seconds - time.monotonic()))
        os.kill(frozen.pid, signal.SIGCONT)
        until_finished(fleet, len(acknowledged))
        eventually(lambda: fleet.shares() == [32, 32], 60)
        assert all(process.poll() is None for process in orchestrators), "a zombie goes on as a member"
    assert course.unowned_seconds_max < TAKEOVER_SECONDS_MAX + 5, course
    settled(fleet, acknowledged)
    return course


async def stop_postgres(fleet: Fleet, restart: Callable[[], None], *, jobs: int, stops: int, seed: int) -> Course:
    """D1: the database dies under load and comes back; nobody ends, and work goes on within seconds."""
    rng, course = random.Random(seed), Course(seed)
    processes = [fleet.start("orchestrator"), fleet.start("orchestrator"), fleet.start("worker", "--processes", "1")]
    eventually(lambda: fleet.shares() == [32, 32], READY_SECONDS)
    acknowledged: list[str] = []
    for _ in range(stops):
        acknowledged += await fleet.submit(*[tree()] * jobs)
        await anyio.sleep(rng.uniform(0.0, 0.5))
        restart()
        course.faults += 1
        back = time.monotonic()
        until_it_goes_on(fleet, len(acknowledged))
        course.unowned_seconds_max = max(course.unowned_seconds_max, time.monotonic() - back)
    until_finished(fleet, len(acknowledged))
    assert all(process.poll() is None for process in processes), "processes outlive their database"
    settled(fleet, acknowledged)
    return course


def settled(fleet: Fleet, acknowledged: list[str]) -> None:
    """The tables tell that nothing is lost, doubled or left; all jobs have done what they should."""
    eventually(lambda: fleet.query("SELECT count(*) FROM dagmaster.message") == [(0,)], 30)
    invariants.check(fleet.uri, acknowledged)
    assert fleet.all_done(len(acknowledged))


def immediately(server: EmbeddedPostgres) -> None:
    """End the server as a power cut would, and start it again."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)
    eventually(lambda: server.pid is None, 20)
    server.stop()
    server.start()
