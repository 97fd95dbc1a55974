"""Orchestrators and workers as processes of their own around one database."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from acceptance.conftest import PROGRAM
from dagmaster.db.connect import open_pool
from dagmaster.db.notify import INBOX, notify
from dagmaster.engine.submit import Submission, submit
from dagmaster.handlers.manifest import bundled_specs


class Fleet:
    """Processes around one database."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGMASTER_")} | {
            "DAGMASTER_DATABASE_URL": uri,
            "DAGMASTER_STORAGE": f"file:{folder / 'storage'}",
            "DAGMASTER_SCRATCH": str(folder / "scratch"),
        }
        self.log = (folder / "fleet.log").open("a")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        made = subprocess.Popen(
            [PROGRAM, *words], env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        self.processes.append(made)
        return made

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
        self.log.close()

    def query(self, text: str, *given: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.uri, autocommit=True) as conn:
            return conn.execute(text.encode(), given).fetchall()

    def shares(self) -> list[int]:
        return sorted(
            n
            for (n,) in self.query(
                "SELECT count(*) FROM dagmaster.shard WHERE owner IS NOT NULL AND lease_until > now() GROUP BY owner"
            )
        )

    def all_done(self, count: int) -> bool:
        return self.query("SELECT count(*) FROM dagmaster.job WHERE status = 'COMPLETED'") == [(count,)]

    async def submit(self, *definitions: Any, inputs: dict[str, Any] | None = None) -> list[str]:
        pool = await open_pool(self.uri)
        made = [await submit(pool, Submission(each, inputs or {}), bundled_specs()) for each in definitions]
        async with pool.connection() as conn:
            await notify(conn, [INBOX])
        await pool.close()
        return [each.job_id for each in made]
