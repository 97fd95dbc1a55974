"""Connections to the control-plane Postgres, set up alike everywhere."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from dagmaster.errors import DatabaseUnreachable

CONNECT_TIMEOUT_SECONDS = 5
POOL_WAIT_SECONDS = 10.0
IDLE_IN_TRANSACTION_SECONDS = 3
"""A frozen owner can neither write nor block: the server ends its open transaction after this."""

Connection = AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]

set_json_loads(orjson.loads)


def _options(*, engine: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "autocommit": True,
        "row_factory": namedtuple_row,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    }
    if engine:
        options |= {
            "prepare_threshold": 1,
            "options": f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_SECONDS}s",
        }
    return options


async def connect(uri: str, *, engine: bool = False) -> Connection:
    """One connection of one's own; `engine` ones never idle in a transaction. Errors: DatabaseUnreachable."""
    try:
        return await AsyncConnection.connect(uri, **_options(engine=engine))
    except psycopg.OperationalError as problem:
        raise unreachable(uri, problem) from problem


async def open_pool(uri: str, *, size_max: int = 8) -> Pool:
    """A pool for short reads and writes. Errors: DatabaseUnreachable."""
    pool: Pool = AsyncConnectionPool(
        uri, min_size=1, max_size=size_max, timeout=POOL_WAIT_SECONDS, kwargs=_options(engine=False), open=False
    )
    try:
        await pool.open(wait=True, timeout=POOL_WAIT_SECONDS)
    except psycopg.Error as problem:
        await pool.close()
        raise unreachable(uri, problem) from problem
    return pool


def unreachable(uri: str, problem: Exception) -> DatabaseUnreachable:
    """The error to show when Postgres does not answer; never shows the password."""
    facts = psycopg.conninfo.conninfo_to_dict(uri)
    address = f"{facts.get('host', 'localhost')}:{facts.get('port', 5432)}"
    return DatabaseUnreachable(address=address, why=str(problem).strip().splitlines()[0] if str(problem) else None)


def dumps(value: Any) -> str:
    """Strict JSON text for a jsonb column."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def dumps_or_none(value: Any) -> str | None:
    return None if value is None else dumps(value)
