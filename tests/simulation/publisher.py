"""A simulated publisher: applies what accepted attempts want published, as the production one does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg

from dagmaster.contract.messages import Published
from dagmaster.dag.aggregate import LISTS, Gathering
from dagmaster.db.inbox import published_body
from dagmaster.engine.publish import DELAY_SECONDS, FAILURES_MAX, POLL_SECONDS
from simulation.loop import Bell, Process, pause
from simulation.tables import Publication
from simulation.world import Connection, Rates, World


class SimPublisher:
    """One publisher; a transaction holds the rows of one attempt from the look until the answer."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.bell = Bell(world.loop)
        swarm = world.swarm
        self.table = Rates(
            swarm.publisher_kill, swarm.publisher_freeze, swarm.publisher_cut, swarm.publisher_cut
        ).table()

    async def live(self) -> None:
        while True:
            try:
                connection = Connection(self.world, self.process, self.table)
                while await self.apply_some(connection):
                    pass
            except psycopg.Error:
                await pause(1.0)
            await self.bell.wait(POLL_SECONDS)

    async def apply_some(self, connection: Connection) -> bool:
        locked: list[Publication] = []

        def lock() -> Publication | None:
            found = self.world.tables.due()
            if found is not None:
                found.locked = True
                locked.append(found)
            return found

        try:
            publication = await connection.call(lock, writes=False)
            if publication is not None:
                await self.apply(connection, publication)
        finally:
            for each in locked:
                each.locked = False
        if publication is not None:
            self.world.hint("inbox")
        return publication is not None

    async def apply(self, connection: Connection, publication: Publication) -> None:
        """The world outside changes first; what is said of it afterwards may be lost, and then it is done again."""
        world = self.world
        await pause(world.swarm.latency)
        world.watch.applies(world.tables, publication)
        fails = world.happens(world.swarm.publication_fails, "publication_fails")
        fatal = fails and world.fate.random() < 0.2
        if fails and not fatal and publication.failures + 1 < FAILURES_MAX:
            delay = timedelta(seconds=DELAY_SECONDS * 2**publication.failures)
            await connection.call(lambda: world.tables.postpone(publication, delay))
            return
        error = {"code": "NOT_PUBLISHED", "message": "it broke", "retryable": False} if fails else None

        def settle() -> None:
            output = None if fails else gathered(world, publication)
            world.watch.settled(publication, error)
            answer = published_body(Published(publication.key, publication.attempt, error, output))
            world.tables.settle(publication, answer)
            if world.happens(world.swarm.duplicate, "duplicate"):
                world.later(
                    20 * world.fate.random(),
                    lambda: world.tables.send(publication.job_id, "published", answer),
                )

        await connection.call(settle)


def gathered(world: World, publication: Publication) -> Any:
    """What a fan-in makes of its children's outputs; None for other publications."""
    effect = publication.effects[0]
    if effect["kind"] != "gather":
        return None
    job = world.tables.jobs[publication.job_id]
    mode, ordinal = effect["body"]["aggregation"], effect["body"]["ordinal"]
    folded, items = Gathering(mode), []
    children = sorted(key for key in job.nodes if key.ordinal == ordinal and key.item >= 0)
    for key in children:
        if job.nodes[key].status == "COMPLETED":
            items += folded.add(job.effective[key].output)
    for key in children:
        if job.nodes[key].status != "COMPLETED":
            folded.add_error(key.item, job.nodes[key].error)
    return ({"results": items} if mode in LISTS else {}) | folded.result()


def start_publisher(world: World) -> None:
    """A new publisher process; another one follows when it ends."""
    process = world.process("publisher")
    publisher = SimPublisher(world, process)

    def again() -> None:
        seconds = 0.05 * 100 ** world.fate.random() if world.faulty else 0.5
        world.loop.call_later(seconds, lambda: start_publisher(world))

    process.on_killed.append(again)
    world.listen("effects", process, publisher.bell.ring)
    process.spawn(publisher.live())
