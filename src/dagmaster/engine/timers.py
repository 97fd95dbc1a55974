"""Deadlines of the jobs held in memory: a heap by the database's time."""

from __future__ import annotations

import heapq
import itertools
from datetime import datetime

from dagmaster.contract.decisions import Timer
from dagmaster.contract.messages import Due, Key

SWEPT_FROM = 1_000
"""Cancelled entries are taken out of the heap when they are so many, and more than half of it."""

Entry = tuple[datetime, int, str, Timer]


class Timers:
    """What is cancelled stays in the heap for a while, but never makes up more than half of it."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._tie = itertools.count()
        self._live: dict[str, dict[Key, list[int]]] = {}
        """Numbers of the entries that count, by job and node."""
        self._cancelled: set[int] = set()

    def __len__(self) -> int:
        return len(self._heap) - len(self._cancelled)

    def set(self, job_id: str, timer: Timer) -> None:
        number = next(self._tie)
        self._live.setdefault(job_id, {}).setdefault(timer.key, []).append(number)
        heapq.heappush(self._heap, (timer.at, number, job_id, timer))

    def clear(self, job_id: str, key: Key) -> None:
        """Cancel the node's timers: its attempt has ended."""
        self._cancel(self._live.get(job_id, {}).pop(key, []))

    def clear_job(self, job_id: str) -> None:
        """Cancel all timers of a job."""
        for numbers in self._live.pop(job_id, {}).values():
            self._cancel(numbers)

    def next_at(self) -> datetime | None:
        self._skip()
        return self._heap[0][0] if self._heap else None

    def due(self, now: datetime) -> list[tuple[str, Timer]]:
        """Take out what has come due."""
        fired = []
        while (at := self.next_at()) is not None and at <= now:
            _, number, job_id, timer = heapq.heappop(self._heap)
            self._live[job_id][timer.key].remove(number)
            fired.append((job_id, timer))
        return fired

    def _cancel(self, numbers: list[int]) -> None:
        self._cancelled.update(numbers)
        if len(self._cancelled) > max(SWEPT_FROM, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[1] not in self._cancelled]
            heapq.heapify(self._heap)
            self._cancelled.clear()

    def _skip(self) -> None:
        while self._heap and self._heap[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self._heap)[1])


def message_of(timer: Timer) -> Due:
    """What the job hears when the timer fires."""
    return Due(timer.key, timer.attempt, timer.kind)  # type: ignore[arg-type]  # kinds come from decide alone
