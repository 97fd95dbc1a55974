"""Keeps the worker's leases from a thread of its own, so that a busy event loop does not lose them.

The loop must show that it turns: a wedged worker stops renewing and its attempts go to others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

import psycopg
import structlog

from dagmaster.contract.messages import Key
from dagmaster.db import worker as store

RENEW_SECONDS = 10.0
WEDGED_AFTER_SECONDS = 15.0

log = structlog.get_logger("dagmaster.worker")

Held = set[tuple[str, Key, int]]


class LeaseKeeper(threading.Thread):
    """Renews every ten seconds and reports which attempts are still held."""

    def __init__(self, uri: str, worker_id: str, on_renewed: Callable[[Held, float], None]) -> None:
        super().__init__(name="lease-keeper", daemon=True)
        self.uri = uri
        self.worker_id = worker_id
        self.on_renewed = on_renewed
        self.turned_at = monotonic()
        """When the worker's loop last turned; the loop itself writes it."""
        self._stop_wanted = threading.Event()

    def run(self) -> None:
        while not self._stop_wanted.wait(RENEW_SECONDS):
            if monotonic() - self.turned_at > WEDGED_AFTER_SECONDS:
                log.error("the worker's loop does not turn; leases are not renewed")
                continue
            try:
                asked_at = monotonic()
                self.on_renewed(store.renew(self.uri, self.worker_id), asked_at)
            except psycopg.Error as problem:
                log.warning("leases not renewed", problem=str(problem))

    def stop(self) -> None:
        self._stop_wanted.set()
