"""Puts an orchestrator together, with the publisher that empties its outbox."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.db.connect import open_pool
from dagmaster.db.notify import EFFECTS, INBOX
from dagmaster.engine.housekeeping import Housekeeper
from dagmaster.engine.orchestrator import Orchestrator
from dagmaster.engine.publish import Publisher
from dagmaster.engine.wake import Notifier, hear
from dagmaster.handlers.manifest import KnownHandlers, bundled_specs
from dagmaster.run.garbage import calm_garbage_collector
from dagmaster.storages import open_storage


async def run_orchestrator(uri: str, storage: str, stop: asyncio.Event, keep: timedelta | None = None) -> None:
    """An orchestrator process: decides until it is told to stop, then hands its shards over.

    `keep` is how long finished jobs are kept; None keeps them for ever.
    """
    pool = await open_pool(uri)
    known = KnownHandlers(bundled_specs(), uri)
    try:
        orchestrator = Orchestrator(uri, pool, known)
        publisher = Publisher(pool, open_storage(storage), EmbeddedCatalog(pool))
        notifier = Notifier(pool)
        calm_garbage_collector()
        publisher.on_applied = lambda: notifier.tell(INBOX)
        parts = [
            asyncio.create_task(orchestrator.run()),
            asyncio.create_task(publisher.run()),
        ]
        beside = [
            asyncio.create_task(hear(uri, [EFFECTS], publisher.bell.ring)),
            asyncio.create_task(Housekeeper(pool, keep).run()),
        ]
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([*parts, stopped], return_when=asyncio.FIRST_COMPLETED)
        publisher.stop()
        orchestrator.stop()
        await asyncio.gather(*parts)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await notifier.flush()
    finally:
        known.close()
        await pool.close()
