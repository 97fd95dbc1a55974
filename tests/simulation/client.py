"""Whoever submits jobs and cancels some; an answer that was lost is asked for again with the same key."""

from __future__ import annotations

import random

from simulation.loop import pause
from simulation.tables import Job
from simulation.workflows import COUNT, inputs, workflow
from simulation.world import World


class Client:
    """Submits all jobs of a run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acknowledged: dict[str, str] = {}
        """Keys, and the job that each was told."""
        self.done = False

    async def live(self) -> None:
        world, rng = self.world, self.world.rng
        jobs = world.swarm.jobs
        for number in range(jobs):
            await pause(world.swarm.submit_over / jobs * rng.random())
            await self.submit(f"key-{number}", rng)
        self.done = True

    async def submit(self, key: str, rng: random.Random) -> None:
        world = self.world
        job_id = f"job-{world.number()}"
        job = Job(
            job_id,
            rng.randrange(world.swarm.shards),
            workflow(rng.randrange(COUNT)),
            not world.happens(world.swarm.unreadable, "unreadable"),
            rng.randrange(3),
            inputs(rng),
        )
        if not job.readable:
            world.watch.poisoned.add(job_id)
        told = world.tables.submit(key, job)
        while world.happens(world.swarm.rudeness, "rudeness"):
            await pause(1.0)
            told = world.tables.submit(key, Job(f"{job_id}-again", job.shard, job.workflow, True, 0, job.inputs))
        self.acknowledged[key] = told
        world.hint("inbox")
        if world.happens(world.swarm.cancel, "cancel"):
            world.later(60 * world.fate.random() ** 2, lambda: self.cancel(told))
        if world.happens(world.swarm.outage, "outage"):
            world.later(40 * world.fate.random(), world.cut_everything)

    def cancel(self, job_id: str) -> None:
        world = self.world
        world.watch.cancelled.add(job_id)
        world.watch.note(f"somebody cancels {job_id}")
        for _ in range(world.fate.choice((1, 1, 2))):
            world.tables.send(job_id, "cancel", {"actor": "somebody", "reason": "enough"})
        world.hint("inbox")
