"""Wake-ups: hints that there may be work. Losing one costs at most a poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import structlog

from dagmaster.db.connect import Connection, Pool, connect
from dagmaster.db.notify import listen, notify
from dagmaster.errors import DatabaseUnreachable

RECONNECT_SECONDS = 1.0

log = structlog.get_logger("dagmaster.wake")


class Bell:
    """Rung from anywhere in the event loop, waited for by one task; cleared before it looks, so no ring is lost."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._rung = True
        self._wake()

    async def wait(self, timeout_seconds: float) -> None:
        """Return at the next ring, or after the timeout."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            alarm = loop.call_later(timeout_seconds, self._wake)
            try:
                await self._waiter
            finally:
                alarm.cancel()
                self._waiter = None
        self._rung = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Notifier:
    """Sends NOTIFY outside of the writing transactions, many wishes as one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wanted: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def tell(self, channel: str) -> None:
        self._wanted.add(channel)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())

    async def flush(self) -> None:
        """Wait until everything wished for was sent."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        while self._wanted:
            channels, self._wanted = self._wanted, set()
            try:
                async with self._pool.connection() as conn:
                    await notify(conn, channels)
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("hint not sent", problem=str(problem))


async def hear(
    uri: str, channels: list[str], ring: Callable[[], None], prepare: Callable[[Connection], object] | None = None
) -> None:
    """Ring at every notification until cancelled; reconnects, and rings then, because a hint may have been lost."""
    while True:
        try:
            async with await connect(uri) as conn:
                if prepare is not None:
                    await prepare(conn)  # type: ignore[misc]  # an async callable
                await listen(conn, channels)
                ring()
                async for _ in conn.notifies():
                    ring()
        except (psycopg.Error, DatabaseUnreachable) as problem:
            log.warning("no longer listening", problem=str(problem))
        await asyncio.sleep(RECONNECT_SECONDS)
