"""A replay notices what does not fit."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dagmaster.contract.decisions import NodeState
from dagmaster.contract.history import JobEnd, Move
from dagmaster.dag.replay import Difference, differences, replay_job, replay_node

AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 0, 0, 5, tzinfo=UTC)
ERROR = {"code": "HANDLER_FAILED"}


def moves(*told: tuple[str, str] | tuple[str, str, dict[str, object]]) -> list[Move]:
    return [Move(seq, AT, 1, each[0], each[1], each[2] if len(each) == 3 else {}) for seq, each in enumerate(told, 1)]


def test_moves_lead_to_the_state() -> None:
    faults: list[Difference] = []
    told = moves(
        ("PENDING", "DISPATCHED"),
        ("DISPATCHED", "RUNNING"),
        ("RUNNING", "READY", {"spent": 1, "not_before": LATER.isoformat(), "error": ERROR}),
    )
    assert replay_node(told, faults) == NodeState("READY", 1, 1, LATER, error=ERROR)
    assert not faults


def test_end_of_a_node_is_the_time_of_its_event() -> None:
    faults: list[Difference] = []
    assert replay_node(moves(("PENDING", "COMPLETED")), faults).finished_at == AT


@pytest.mark.parametrize(
    "told",
    [
        (("PENDING", "COMPLETED"), ("COMPLETED", "READY")),
        (("PENDING", "DISPATCHED"), ("RUNNING", "COMPLETED")),
        (("PENDING", "SKIPPED"), ("SKIPPED", "SKIPPED")),
    ],
)
def test_illegal_and_missing_moves_are_faults(told: tuple[tuple[str, str], ...]) -> None:
    faults: list[Difference] = []
    replay_node(moves(*told), faults)
    assert [fault.what for fault in faults] == ["event 2"]


def test_job_ends_with_its_error() -> None:
    faults: list[Difference] = []
    told = moves(("PENDING", "RUNNING"), ("RUNNING", "FAILED", {"error": ERROR}))
    assert replay_job(told, faults) == JobEnd("FAILED", ERROR, AT)
    replay_job(moves(("PENDING", "RUNNING"), ("PENDING", "RUNNING")), faults)
    assert [fault.what for fault in faults] == ["event 2"]


def test_differences_are_told_by_field() -> None:
    found = list(differences(NodeState("RUNNING", 2), NodeState("COMPLETED", 2)))
    assert found == [Difference("status", "RUNNING", "COMPLETED")]
