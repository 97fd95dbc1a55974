"""The state tables against the database, pair by pair: legal moves succeed, illegal ones are refused by Postgres."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dagmaster.contract.states import JOB_MOVES, JOB_TERMINAL, NODE_MOVES, NODE_TERMINAL

DIGEST = "0" * 64


@pytest.fixture(scope="module")
def connection(postgres_server: Any, template_database: str) -> Iterator[psycopg.Connection[Any]]:
    """One database for all pairs; nothing is committed."""
    uri = postgres_server.uri.replace("/dagmaster?", "/postgres?")
    name = "states_" + uuid.uuid4().hex[:8]
    with psycopg.connect(uri, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}"')
    with psycopg.connect(uri.replace("/postgres?", f"/{name}?")) as made:
        yield made
    with psycopg.connect(uri, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def moved(
    connection: psycopg.Connection[Any], statement: str, before: str, after: str, terminal: frozenset[str]
) -> bool:
    """Whether a row may go from one status to the other."""
    finished = "now()" if after in terminal else "NULL"
    try:
        connection.execute(statement.format(finished=finished), (after,))
    except psycopg.errors.Error as problem:
        assert problem.sqlstate == "DM001", f"{before} -> {after}: {problem}"
        return False
    return True


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(JOB_MOVES, 2)))
def test_jobs_move_only_by_the_table(connection: psycopg.Connection[Any], before: str, after: str) -> None:
    finished = "now()" if before in JOB_TERMINAL else "NULL"
    with connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO dagmaster.definition VALUES (%s, 'w', 1, '{}', now()) ON CONFLICT DO NOTHING", (DIGEST,)
        )
        connection.execute(
            "INSERT INTO dagmaster.job (job_id, shard, digest, workflow_id, workflow_version, status, inputs, created_at,"
            f" finished_at) VALUES (gen_random_uuid(), 0, %s, 'w', 1, %s, '{{}}', now(), {finished})",
            (DIGEST, before),
        )
        statement = "UPDATE dagmaster.job SET status = %s, finished_at = {finished}"
        with connection.transaction(force_rollback=True):
            assert moved(connection, statement, before, after, JOB_TERMINAL) == (after in JOB_MOVES[before])


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(NODE_MOVES, 2)))
def test_nodes_move_only_by_the_table(connection: psycopg.Connection[Any], before: str, after: str) -> None:
    finished = "now()" if before in NODE_TERMINAL else "NULL"
    with connection.transaction(force_rollback=True):
        connection.execute(
            f"INSERT INTO dagmaster.node (job_id, ordinal, status, finished_at) VALUES (gen_random_uuid(), 0, %s, {finished})",
            (before,),
        )
        statement = "UPDATE dagmaster.node SET status = %s, finished_at = {finished}"
        with connection.transaction(force_rollback=True):
            assert moved(connection, statement, before, after, NODE_TERMINAL) == (after in NODE_MOVES[before])


def test_a_status_that_is_no_state_is_refused(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True), pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO dagmaster.node (job_id, ordinal, status) VALUES (gen_random_uuid(), 0, 'LOST')")


def test_a_second_effective_result_is_refused(connection: psycopg.Connection[Any]) -> None:
    job_id = uuid.uuid4()
    row = "INSERT INTO dagmaster.attempt (job_id, ordinal, item, attempt, outcome, finished_at) VALUES (%s, 1, -1, %s, 'COMPLETED', now())"
    with connection.transaction(force_rollback=True):
        connection.execute(row, (job_id, 1))
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(row, (job_id, 2))
