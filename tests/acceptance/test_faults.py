"""Real processes, real signals: after each fault the tables tell that nothing is lost, doubled or left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance import faults
from acceptance.fleet import Fleet
from dagmaster.db.embedded import EmbeddedPostgres
from dagmaster.db.migrate import migrate

SEED = 20_261
AT_LENGTH = pytest.mark.chaos


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("jobs", "kills"), [(20, 6), pytest.param(500, 200, marks=AT_LENGTH)], ids=["short", "at-length"]
)
async def test_killed_orchestrators_lose_and_repeat_nothing(fleet: Fleet, jobs: int, kills: int) -> None:
    course = await faults.kill_orchestrators(fleet, jobs=jobs, kills=kills, pause=(0.5, 3.0), seed=SEED)
    assert course.faults >= kills


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("pauses", "seconds"), [(1, 12.0), pytest.param(50, 15.0, marks=AT_LENGTH)], ids=["short", "at-length"]
)
async def test_orchestrator_that_stood_still_writes_nothing_as_a_former_owner(
    fleet: Fleet, pauses: int, seconds: float
) -> None:
    course = await faults.freeze(fleet, jobs=10, pauses=pauses, seconds=seconds, seed=SEED)
    assert course.faults == pauses


@pytest.fixture
def own_server(session_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that a test may kill, with full durability."""
    with EmbeddedPostgres(session_folder / f"killed-{tmp_path.name}") as server:
        migrate(server.uri)
        yield server


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("jobs", "stops"), [(20, 2), pytest.param(200, 20, marks=AT_LENGTH)], ids=["short", "at-length"]
)
async def test_death_of_the_database_loses_no_submission(
    own_server: EmbeddedPostgres, tmp_path: Path, jobs: int, stops: int
) -> None:
    fleet = Fleet(own_server.uri, tmp_path)
    try:
        course = await faults.stop_postgres(
            fleet, lambda: faults.immediately(own_server), jobs=jobs, stops=stops, seed=SEED
        )
    finally:
        fleet.end()
    assert course.unowned_seconds_max < faults.RESUME_SECONDS_MAX, course
