"""Brings a database to the schema of this release, with plain SQL files applied once each, in order."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import get_backend, read_migrations

from dagmaster.db.connect import unreachable
from dagmaster.db.statements import SQL

FOLDER = Path(__file__).parent / "migrations"


def migrate(uri: str) -> list[str]:
    """Apply what is missing, under a lock; returns the names of the applied migrations. Errors: DatabaseUnreachable."""
    logging.getLogger("yoyo.migrations").setLevel(logging.WARNING)
    try:
        with psycopg.connect(uri, autocommit=True) as guard:
            guard.execute(SQL["lock_migrations"])
            return _apply(_yoyo_uri(uri))
    except psycopg.OperationalError as problem:
        raise unreachable(uri, problem) from problem


def _apply(uri: str) -> list[str]:
    """Apply what is missing. Our lock ends with its session; a row that a killed run left in yoyo's own would stay."""
    backend = get_backend(uri)
    try:
        backend.break_lock()
        with backend.lock():
            missing = backend.to_apply(read_migrations(str(FOLDER)))
            backend.apply_migrations(missing)
        return [migration.id for migration in missing]
    finally:
        backend.connection.close()


def _yoyo_uri(uri: str) -> str:
    """yoyo wants a URL that names its driver; everything else libpq understands goes into the query."""
    facts = conninfo_to_dict(uri)
    database = facts.pop("dbname", "")
    return f"postgresql+psycopg:///{database}?{urlencode(facts)}"
