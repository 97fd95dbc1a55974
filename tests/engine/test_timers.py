"""Deadlines in order; what was cancelled never fires and does not pile up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dagmaster.contract.decisions import Timer
from dagmaster.contract.messages import Key
from dagmaster.engine.timers import SWEPT_FROM, Timers

START = datetime(2026, 1, 1, tzinfo=UTC)


def timer(ordinal: int, seconds: float, kind: str = "timeout") -> Timer:
    return Timer(Key(ordinal), 1, kind, START + timedelta(seconds=seconds))


def test_timers_fire_in_order_and_once() -> None:
    timers = Timers()
    for ordinal, seconds in ((1, 3.0), (2, 1.0), (3, 2.0)):
        timers.set("job", timer(ordinal, seconds))
    assert timers.next_at() == START + timedelta(seconds=1)
    assert [t.key.ordinal for _, t in timers.due(START + timedelta(seconds=2))] == [2, 3]
    assert [t.key.ordinal for _, t in timers.due(START + timedelta(seconds=9))] == [1]
    assert timers.next_at() is None


def test_cancelled_timers_never_fire() -> None:
    timers = Timers()
    timers.set("job", timer(1, 1.0))
    timers.set("job", timer(1, 2.0, "lease"))
    timers.set("job", timer(2, 3.0))
    timers.set("other", timer(1, 4.0))
    timers.clear("job", Key(1))
    assert timers.next_at() == START + timedelta(seconds=3)
    timers.clear_job("job")
    assert [job_id for job_id, _ in timers.due(START + timedelta(seconds=9))] == ["other"]


def test_a_hundred_thousand_attempts_leave_no_hundred_thousand_timers() -> None:
    """Every attempt sets clocks of minutes and hours; almost all are cancelled within a second."""
    timers = Timers()
    for ordinal in range(100_000):
        timers.set("job", timer(ordinal, 3600.0))
        timers.clear("job", Key(ordinal))
    assert len(timers) == 0
    assert len(timers._heap) <= 2 * SWEPT_FROM
