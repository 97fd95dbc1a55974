"""What all tests share: folders that Postgres may enter, one server per test process, one database per test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import waiting
from dagmaster.db.embedded import EmbeddedPostgres

TESTS = Path(__file__).parent
TEMPLATE = "dm_template"
UNSAFE_AND_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""The tests' server may lose its data when the machine stops; killing the server loses nothing even so."""

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in benchmarks/ and chaos/ is marked as such."""
    for item in items:
        rooms = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
        if "benchmarks" in rooms:
            item.add_marker(pytest.mark.benchmark)
        if "chaos" in rooms:
            item.add_marker(pytest.mark.chaos)


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for this test process. Unlike pytest's own, other OS users may enter it: root's Postgres is one."""
    folder = Path(tempfile.mkdtemp(prefix="dm-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_folder(session_folder: Path) -> Iterator[Path]:
    """The path of a data folder that does not exist yet; removed afterwards."""
    folder = session_folder / f"data-{next(_numbers)}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(session_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The Postgres server of this test process."""
    with EmbeddedPostgres(session_folder / "server", settings=UNSAFE_AND_FAST) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: EmbeddedPostgres) -> str:
    """The name of a migrated database that is never written to."""
    from dagmaster.db.migrate import migrate  # so that tests of other rooms do not need it

    _run(postgres_server, "CREATE DATABASE {}", TEMPLATE)
    migrate(uri_of(postgres_server, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_uri(
    postgres_server: EmbeddedPostgres, template_database: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A fresh, migrated database for one test; afterwards the events of all its jobs have to lead to their rows."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    # Copying files takes a third of the time of copying through the log, since nothing is flushed here.
    _run(postgres_server, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template_database)
    yield uri_of(postgres_server, name)
    if request.node.get_closest_marker("rows_altered") is None:
        from replaying import replay_all

        replay_all(uri_of(postgres_server, name))
    _run(postgres_server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_database_uri(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database without any table, for the tests of the migrations."""
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    _run(postgres_server, "CREATE DATABASE {}", name)
    yield uri_of(postgres_server, name)
    _run(postgres_server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`eventually(condition, timeout=10)`: wait until the condition holds, and return its value."""
    return waiting.eventually


def uri_of(server: EmbeddedPostgres, database: str) -> str:
    """The address of another database on the server."""
    return server.uri.replace("postgresql:///dagmaster?", f"postgresql:///{database}?", 1)


def _run(server: EmbeddedPostgres, statement: str, *names: str) -> None:
    with psycopg.connect(uri_of(server, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
