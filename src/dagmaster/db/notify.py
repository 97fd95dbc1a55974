"""LISTEN and NOTIFY on two channels; the payload says nothing, the tables say everything."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from dagmaster.db.connect import Connection
from dagmaster.db.statements import SQL

INBOX = "dagmaster_inbox"
"""There are messages for orchestrators."""
TASKS = "dagmaster_tasks"
"""There are tasks for workers."""
EFFECTS = "dagmaster_effects"
"""There are publications to apply."""


async def listen(conn: Connection, channels: Iterable[str]) -> None:
    for channel in channels:
        await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))


async def notify(conn: Connection, channels: Iterable[str]) -> None:
    await conn.execute(SQL["notify"], {"channels": sorted(channels)})
