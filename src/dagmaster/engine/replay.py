"""Compares what a job's events lead to with what its rows say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from dagmaster.contract.api import DifferenceOfReplay, ReplayBody
from dagmaster.contract.decisions import PENDING, NodeState
from dagmaster.contract.history import Move
from dagmaster.contract.messages import Key
from dagmaster.dag.replay import Difference, differences, replay_job, replay_node
from dagmaster.db.connect import Pool
from dagmaster.db.replay import JOB, History, history
from dagmaster.engine.status import JobReader
from dagmaster.errors import NotFound

DIFFERENCES_MAX = 100
"""So many are told; that there are more is told too."""

T = TypeVar("T")


async def replay(pool: Pool, reader: JobReader, job_id: str) -> ReplayBody:
    """The job from its events alone, beside its rows, in one snapshot. Errors: NotFound.

    It holds one node at a time, so that a fan-out of any width costs no memory.
    """
    names = await reader.names(job_id)
    found: list[tuple[Key, Difference]] = []
    nodes = 0
    async with pool.connection() as conn, history(conn, job_id) as told:
        if told is None:
            raise NotFound(noun="job", id=job_id)
        async for key, differ in _compare(told):
            nodes += key != JOB
            found.extend((key, each) for each in differ[: DIFFERENCES_MAX + 1 - len(found)])
    numbers = told.numbering
    if not numbers.gapless:
        gap = Difference("events", f"{numbers.count} from {numbers.first} to {numbers.last}", "numbered 1, 2, 3, …")
        found.insert(0, (JOB, gap))
    lines = [
        DifferenceOfReplay(
            node=None if key == JOB else names.of(*key),
            what=each.what,
            by_events=each.by_events,
            by_tables=each.by_tables,
        )
        for key, each in found[:DIFFERENCES_MAX]
    ]
    return ReplayBody(
        job_id=job_id,
        status=told.end.status,
        events=numbers.count,
        nodes=nodes,
        equal=not found,
        differences=lines,
        more=len(found) > DIFFERENCES_MAX,
    )


async def _compare(told: History) -> AsyncIterator[tuple[Key, list[Difference]]]:
    """Node by node, in the order of their keys: the moves and the rows are read side by side."""
    moves, rows = Ahead(told.moves), Ahead(told.rows)
    await moves.step()
    await rows.step()
    faults: list[Difference] = []
    end = replay_job(await _moves_of(JOB, moves), faults)
    yield JOB, [*faults, *differences(end, told.end)]
    while moves.now is not None or rows.now is not None:
        key = min(ahead.now[0] for ahead in (moves, rows) if ahead.now is not None)
        faults = []
        by_events = replay_node(await _moves_of(key, moves), faults)
        by_tables: NodeState = PENDING
        if rows.now is not None and rows.now[0] == key:
            by_tables = rows.now[1]
            await rows.step()
        yield key, [*faults, *differences(by_events, by_tables)]


async def _moves_of(key: Key, moves: Ahead[Move]) -> list[Move]:
    found = []
    while moves.now is not None and moves.now[0] == key:
        found.append(moves.now[1])
        await moves.step()
    return found


class Ahead(Generic[T]):
    """An iterator whose next line can be looked at."""

    def __init__(self, lines: AsyncIterator[tuple[Key, T]]) -> None:
        self.lines = lines
        self.now: tuple[Key, T] | None = None

    async def step(self) -> None:
        self.now = await anext(self.lines, None)
