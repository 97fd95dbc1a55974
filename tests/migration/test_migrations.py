"""Bringing a database to this release: once, again, and by several at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

from dagmaster.db.migrate import FOLDER, migrate
from dagmaster.errors import DatabaseUnreachable

SHAPE = """
SELECT table_schema, table_name, column_name, data_type, is_nullable FROM information_schema.columns
WHERE table_schema IN ('dagmaster', 'catalog') ORDER BY 1, 2, 3
"""


def test_every_migration_is_applied_to_an_empty_database(empty_database_uri: str) -> None:
    assert migrate(empty_database_uri) == sorted(file.stem for file in FOLDER.glob("*.sql"))


def test_migrating_again_changes_nothing(empty_database_uri: str) -> None:
    migrate(empty_database_uri)
    before = _shape(empty_database_uri)
    assert migrate(empty_database_uri) == []
    assert _shape(empty_database_uri) == before
    assert before


def test_migrating_by_several_at_once_applies_everything_once(empty_database_uri: str) -> None:
    ready = Barrier(2)

    def together() -> list[str]:
        ready.wait(10)
        return migrate(empty_database_uri)

    with ThreadPoolExecutor(2) as threads:
        applied = [each.result(60) for each in [threads.submit(together) for _ in range(2)]]
    assert sorted(name for names in applied for name in names) == sorted(file.stem for file in FOLDER.glob("*.sql"))
    assert migrate(empty_database_uri) == []


def test_database_that_does_not_answer_is_named() -> None:
    with pytest.raises(DatabaseUnreachable):
        migrate("postgresql:///nothing?host=/var/tmp/no-such-folder")


def _shape(uri: str) -> list[tuple[str, ...]]:
    with psycopg.connect(uri) as conn:
        return conn.execute(SHAPE).fetchall()


def test_lock_that_a_killed_migration_left_is_no_obstacle(database_uri: str) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    assert migrate(database_uri) == []
