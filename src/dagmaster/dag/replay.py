"""A job once more, from its events alone: what they lead to has to be what the tables say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from dagmaster.contract.decisions import PENDING, NodeState
from dagmaster.contract.history import JobEnd, Move
from dagmaster.contract.states import JOB_MOVES, NODE_MOVES, NODE_TERMINAL


class Difference(NamedTuple):
    """A fact on which the events and the tables do not agree."""

    what: str
    by_events: Any
    by_tables: Any


def replay_node(moves: Iterable[Move], faults: list[Difference]) -> NodeState:
    """The state that the moves of one node lead to; moves that are no legal ones are added to `faults`.

    When an attempt started is not in the events, so `started_at` stays None.
    """
    node = PENDING
    for move in moves:
        again = move.before == move.to and move.to not in NODE_TERMINAL
        if move.before != node.status or not (again or move.to in NODE_MOVES[node.status]):
            faults.append(Difference(f"event {move.seq}", f"{move.before} → {move.to}", f"it was {node.status}"))
        not_before = move.data.get("not_before")
        node = NodeState(
            move.to,
            move.attempt or 0,
            move.data.get("spent", 0),
            datetime.fromisoformat(not_before) if not_before else None,
            finished_at=move.at if move.to in NODE_TERMINAL else None,
            error=move.data.get("error"),
        )
    return node


def replay_job(moves: Iterable[Move], faults: list[Difference]) -> JobEnd:
    """Where the moves of the job itself lead to; moves that are no legal ones are added to `faults`."""
    end = JobEnd()
    for move in moves:
        if move.before != end.status or move.to not in JOB_MOVES[end.status]:
            faults.append(Difference(f"event {move.seq}", f"{move.before} → {move.to}", f"it was {end.status}"))
        over = not JOB_MOVES[move.to]
        end = JobEnd(move.to, move.data.get("error"), move.at if over else None)
    return end


def differences(by_events: tuple[Any, ...], by_tables: tuple[Any, ...]) -> Iterator[Difference]:
    """Field by field, for two records of one kind."""
    names: tuple[str, ...] = getattr(by_events, "_fields", ())
    for name, event, row in zip(names, by_events, by_tables, strict=True):
        if event != row:
            yield Difference(name, event, row)
