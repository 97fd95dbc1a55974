"""The oldest Postgres that is supported, where its programs are installed: migrations and a whole job."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagmaster.db.connect import open_pool
from dagmaster.db.migrate import migrate
from engine.conftest import Bench
from waiting import eventually

PROGRAMS = Path("/usr/lib/postgresql/15/bin")

pytestmark = pytest.mark.skipif(not PROGRAMS.is_dir(), reason=f"Postgres 15 is not installed: no {PROGRAMS}")


@pytest.fixture(scope="module")
def postgres_15() -> Iterator[str]:
    """The address of a server of its own, reached through a socket in its folder; root runs it as `postgres`."""
    folder = Path(tempfile.mkdtemp(prefix="dm-pg15-", dir="/var/tmp"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = folder / "data"
    subprocess.run(
        [PROGRAMS / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"],
        cwd=folder,
        check=True,
        capture_output=True,
        **user,
    )
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", "autovacuum": "off"}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    log = (folder.parent / f"{folder.name}.log").open("wb")
    server = subprocess.Popen(
        [PROGRAMS / "postgres", "-D", data, *words], cwd=folder, stdout=log, stderr=subprocess.STDOUT, **user
    )
    uri = f"postgresql:///postgres?host={folder}&user=postgres"
    try:
        eventually(lambda: _answers(uri), 30)
        yield uri
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)
        log.close()
        Path(log.name).unlink()
        shutil.rmtree(folder, ignore_errors=True)


def test_server_is_version_15_and_takes_the_migrations(postgres_15: str) -> None:
    with psycopg.connect(postgres_15) as conn:
        assert conn.info.server_version // 10_000 == 15
    migrate(postgres_15)
    assert migrate(postgres_15) == []


async def test_whole_job_runs_on_postgres_15(postgres_15: str, tmp_path: Path) -> None:
    await asyncio.to_thread(migrate, postgres_15)
    pool = await open_pool(postgres_15, size_max=12)
    bench = Bench(postgres_15, pool, tmp_path)
    async with bench.engine():
        job_id = await bench.submit(inputs={"message": "from 15"})
        for _ in range(2):
            (task,) = await bench.worker.claim()
            await bench.worker.report(task)
        job = await bench.until(job_id, "COMPLETED")
    assert job.nodes["b"].output == {"said": "from 15"}
    assert await bench.query("SELECT count(*)::int AS n FROM dagmaster.attempt WHERE outcome = 'COMPLETED'") == [(2,)]
    await pool.close()


def _answers(uri: str) -> bool:
    try:
        psycopg.connect(uri).close()
    except psycopg.OperationalError:
        return False
    return True
