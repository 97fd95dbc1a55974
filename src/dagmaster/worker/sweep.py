"""Removes what finished jobs leave on this host: scratch folders, and what was staged but never published."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import psycopg
import structlog

from dagmaster.db import worker as store
from dagmaster.db.connect import Pool
from dagmaster.errors import DatabaseUnreachable, StorageError
from dagmaster.storages.base import Storage

SETTLE_SECONDS = 0.2
"""After an attempt ended its job may be about to end too."""
SWEEP_SECONDS = 30.0
JOB_ID_LENGTH = 36

log = structlog.get_logger("dagmaster.worker")


class Sweeper:
    """Looks after every attempt, and now and then; asks the database which jobs have ended."""

    def __init__(self, pool: Pool, scratch: Path, storage: Storage) -> None:
        self.pool = pool
        self.scratch = scratch
        self.storage = storage
        self.bell = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except (psycopg.Error, DatabaseUnreachable, StorageError, OSError) as problem:
                log.warning("not swept", problem=str(problem))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):  # wait_for of 3.11 loses a cancellation when the bell rings
                    await self.bell.wait()
            self.bell.clear()
            await asyncio.sleep(SETTLE_SECONDS)

    async def sweep(self) -> None:
        """Remove the folders and staged objects of jobs that have ended or never were."""
        folders = {path.name: path for path in self.scratch.iterdir()} if self.scratch.is_dir() else {}
        tokens = await asyncio.to_thread(self.storage.staged)
        job_ids = set(folders) | {token[:JOB_ID_LENGTH] for token in tokens}
        if not job_ids:
            return
        async with self.pool.connection() as conn:
            ended = await store.ended_jobs(conn, sorted(job_ids))
        for job_id in ended & set(folders):
            await asyncio.to_thread(shutil.rmtree, folders[job_id], True)
        for token in tokens:
            if token[:JOB_ID_LENGTH] in ended:
                await asyncio.to_thread(self.storage.discard, token)
