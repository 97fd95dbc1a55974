"""Applies what accepted attempts want published: files become visible, documents enter the catalog.

Effects are outbox rows. All effects of one attempt are applied in order, in one transaction with their
removal from the outbox and the message that completes the node; applying one twice changes nothing.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from datetime import timedelta
from itertools import groupby
from typing import Any

import psycopg
import structlog

from dagmaster.catalog.base import Catalog
from dagmaster.contract.messages import Key, Published
from dagmaster.db import effects as outbox
from dagmaster.db.connect import Connection, Pool
from dagmaster.db.inbox import published_body
from dagmaster.engine.gather import gather
from dagmaster.engine.wake import Bell
from dagmaster.errors import DagmasterError, DatabaseUnreachable, HandlerError
from dagmaster.storages.base import Storage

FAILURES_MAX = 5
DELAY_SECONDS = 2.0
POLL_SECONDS = 30.0
"""Orchestrators look for publications whenever they look into their inbox, and ring."""

log = structlog.get_logger("dagmaster.publish")


class Publisher:
    """Empties the outbox; any number of them may run side by side."""

    def __init__(self, pool: Pool, storage: Storage, catalog: Catalog) -> None:
        self.pool = pool
        self.storage = storage
        self.catalog = catalog
        self.bell = Bell()
        self.on_applied: Callable[[], None] = lambda: None
        """Called when a publication has been answered: there is a message for the orchestrators."""
        self._stopping = False

    async def run(self) -> None:
        while not self._stopping:
            try:
                while await self.apply_some():
                    pass
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("outbox not reachable", problem=str(problem))
            await self.bell.wait(POLL_SECONDS)

    def stop(self) -> None:
        self._stopping = True
        self.bell.ring()

    async def apply_some(self) -> bool:
        """Apply the due effects of one attempt; False when there are none."""
        async with self.pool.connection() as conn, conn.transaction():
            wanted = await outbox.due(conn)
            for _, group in groupby(wanted, key=lambda effect: (effect.job_id, effect.key, effect.attempt)):
                await self.apply_attempt(conn, list(group))
        if wanted:
            self.on_applied()
        return bool(wanted)

    async def apply_attempt(self, conn: Connection, effects: list[outbox.EffectRow]) -> None:
        """Apply one attempt's effects in a savepoint; a fault postpones them, or fails the node in the end."""
        first = effects[0]
        output: Any = None
        try:
            async with conn.transaction():
                for effect in effects:
                    output = await self.apply_one(conn, effect)
        except Exception as problem:
            if conn.broken or conn.closed:
                raise
            log.exception("publication failed", job_id=first.job_id, failures=first.failures + 1)
            if first.failures + 1 < FAILURES_MAX and getattr(problem, "retryable", True):
                await outbox.postpone(conn, effects, timedelta(seconds=DELAY_SECONDS * 2**first.failures))
                return
            await outbox.settle(conn, effects, published_body(self.answer(first, self.error_of(problem), None)))
            return
        await outbox.settle(conn, effects, published_body(self.answer(first, None, output)))

    async def apply_one(self, conn: Connection, effect: outbox.EffectRow) -> Any:
        """Apply one effect; returns what a fan-in gathered, else None."""
        body = effect.body
        match effect.kind:
            case "artifact":
                container, path = body["container"], body["path"]
                await asyncio.to_thread(self.storage.publish, body["staged"], container, path)
                size = (await asyncio.to_thread(self.storage.head, container, path)).size_bytes
                await outbox.record_artifact(conn, effect, container, path, size)
            case "stac_collection":
                await self.catalog.put_collection(body["document"], effect.token)
            case "stac_item":
                await self.catalog.put_item(body["collection_id"], body["document"], effect.token)
            case "gather":
                return await gather(conn, self.storage, effect)
            case _:
                raise HandlerError(f"There is no publication of kind `{effect.kind}`.", retryable=False)
        return None

    def answer(self, effect: outbox.EffectRow, error: dict[str, object] | None, output: Any) -> Published:
        return Published(Key(*effect.key), effect.attempt, error, output)

    def error_of(self, problem: Exception) -> dict[str, object]:
        if isinstance(problem, DagmasterError):
            return without_nul(problem.as_dict())
        why = traceback.format_exc(limit=-3)
        return without_nul(HandlerError("The result could not be published.", why=why).as_dict())


def without_nul(error: dict[str, Any]) -> dict[str, Any]:
    """The same without the one character that Postgres cannot hold in JSON."""
    return {key: each.replace("\x00", "\ufffd") if isinstance(each, str) else each for key, each in error.items()}
