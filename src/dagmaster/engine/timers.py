"""Deadlines of the jobs held in memory: a heap by the database's time."""

from __future__ import annotations

import heapq
import itertools
from datetime import datetime

from dagmaster.contract.decisions import Timer
from dagmaster.contract.messages import Due


class Timers:
    """Timers are never removed: one that no longer applies is found out when it fires."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, str, Timer]] = []
        self._tie = itertools.count()

    def set(self, job_id: str, timer: Timer) -> None:
        heapq.heappush(self._heap, (timer.at, next(self._tie), job_id, timer))

    def next_at(self) -> datetime | None:
        return self._heap[0][0] if self._heap else None

    def due(self, now: datetime) -> list[tuple[str, Timer]]:
        """Take out what has come due."""
        fired = []
        while self._heap and self._heap[0][0] <= now:
            _, _, job_id, timer = heapq.heappop(self._heap)
            fired.append((job_id, timer))
        return fired


def message_of(timer: Timer) -> Due:
    """What the job hears when the timer fires."""
    return Due(timer.key, timer.attempt, timer.kind)  # type: ignore[arg-type]  # kinds come from decide alone
