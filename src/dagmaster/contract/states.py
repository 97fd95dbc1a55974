"""The state machines: one table `from -> {to}` each. The database enforces the same tables.

A decision may carry a node through several states at once (a conditional becomes ready and completes in
one tick); the row and its event record the net move, so the tables list those net moves.
"""

from __future__ import annotations

from typing import Final

JOB_MOVES: Final[dict[str, frozenset[str]]] = {
    "PENDING": frozenset({"RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PAUSED"}),
    "RUNNING": frozenset({"COMPLETED", "FAILED", "CANCELLED", "PAUSED"}),
    "PAUSED": frozenset({"RUNNING", "CANCELLED"}),
    "COMPLETED": frozenset(),
    "FAILED": frozenset(),
    "CANCELLED": frozenset(),
}

NODE_MOVES: Final[dict[str, frozenset[str]]] = {
    "PENDING": frozenset({"READY", "DISPATCHED", "RUNNING", "WAITING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"}),
    "READY": frozenset({"DISPATCHED", "RUNNING", "FAILED", "SKIPPED", "CANCELLED"}),
    "DISPATCHED": frozenset({"RUNNING", "WAITING", "COMPLETED", "FAILED", "READY", "CANCELLED"}),
    "RUNNING": frozenset({"COMPLETED", "FAILED", "READY", "DISPATCHED", "WAITING", "CANCELLED"}),
    "WAITING": frozenset({"COMPLETED", "FAILED", "READY", "CANCELLED"}),
    "COMPLETED": frozenset(),
    "FAILED": frozenset(),
    "SKIPPED": frozenset(),
    "CANCELLED": frozenset(),
}

JOB_TERMINAL: Final[frozenset[str]] = frozenset(state for state, moves in JOB_MOVES.items() if not moves)
NODE_TERMINAL: Final[frozenset[str]] = frozenset(state for state, moves in NODE_MOVES.items() if not moves)
