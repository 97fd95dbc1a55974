"""The process that draws rasters: started at the first request, started again when it dies, stopped with us.

It is a process of its own because it holds GDAL and numpy, and because a file that crashes GDAL must not take the API
along. The socket is ours and the child inherits it: a request that comes while there is no child waits in its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import structlog

from dagmaster.errors import DagmasterError
from dagmaster.executors.gdal import DriversUnknown, gdal_environment, registered_drivers
from dagmaster.executors.limits import MIB, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, child_environment, python

MODULE = "dagmaster.run.serve"
SOCKET = "tiler.sock"
WAITING_MAX = 128
"""Connections that wait in the socket's queue."""
CONNECTIONS_MAX = 16
MEMORY_MIB = 3072
FILES_OPEN_MAX = 1024
EXTRA_DRIVERS = frozenset({"VRT", "WEBP"})
"""GDAL warps through a VRT that it makes itself, and WEBP is written; files are opened as GeoTIFF and nothing else."""
READY = b"ready"
START_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 3.0
SETTLED_SECONDS = 10.0
"""A child that lived so long is replaced at once; one that did not, after a pause."""
PAUSE_SECONDS = 1.0
LINE_BYTES_MAX = 64 * 1024
TRIES = 2

log = structlog.get_logger("dagmaster.tiler")


class TilerUnavailable(DagmasterError):
    """Pictures cannot be drawn at the moment."""

    code = "TILER_UNAVAILABLE"
    retryable = True
    remedy = "Ask again; the log of `dagmaster up` says why the drawing process stopped."
    explanation = "Rasters are drawn by a process of its own. It did not start, or died twice over the same request."


class TilerLate(DagmasterError):
    """The picture was not drawn within {seconds} s."""

    code = "TILER_LATE"
    retryable = True
    remedy = "Ask again, or for a deeper zoom; a raster without overviews is slow to draw as a whole."
    explanation = "Rasters are drawn by a process of its own, which is given up on after this time."


class Tiler:
    """The drawing process, and requests to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid: int | None = None
        self._ready: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None

    async def get(self, path: str, query: list[tuple[str, str]]) -> httpx.Response:
        """What the process answers; what it died over is sent once more. Errors: TilerUnavailable, TilerLate."""
        for _ in range(TRIES):
            client = await self._running()
            try:
                return await client.get(f"{path}?{urlencode(query)}")
            except httpx.TimeoutException as problem:
                raise TilerLate(seconds=f"{ANSWER_SECONDS_MAX:g}") from problem
            except httpx.TransportError as problem:
                log.warning("the drawing process left a request unanswered", why=type(problem).__name__)
        raise TilerUnavailable(why="It died over this request.")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _running(self) -> httpx.AsyncClient:
        if self._keeper is None or self._keeper.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep())
        assert self._ready is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS_MAX)
        except TimeoutError as problem:
            raise TilerUnavailable(why="It did not start in time.") from problem
        assert self._client is not None
        return self._client

    # --- the child ---------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Keep one child running until cancelled; why it cannot even be started is told to whoever waits."""
        try:
            drivers = await asyncio.to_thread(registered_drivers)
            with _listening(self.folder) as (listening, address):
                await self._keep_at(listening, address, child_environment(gdal_environment(drivers - EXTRA_DRIVERS)))
        except (DriversUnknown, OSError) as problem:
            log.error("the drawing process cannot be started", why=str(problem))
            self._fail(str(problem))

    async def _keep_at(self, listening: socket.socket, address: str, environment: dict[str, str]) -> None:
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        transport = httpx.AsyncHTTPTransport(uds=address, limits=limits, trust_env=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://tiler", timeout=ANSWER_SECONDS_MAX, trust_env=False
        ) as self._client:
            while True:
                began = time.monotonic()
                await self._one_life(listening, environment)
                if time.monotonic() - began < SETTLED_SECONDS:
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _one_life(self, listening: socket.socket, environment: dict[str, str]) -> None:
        if self._ready is None or self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()
        process = await asyncio.create_subprocess_exec(
            python(),
            "-W",
            "ignore",  # libraries warn of every raster that reaches the poles
            "-m",
            MODULE,
            str(listening.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=[listening.fileno()],
            env=environment,
            start_new_session=True,
            preexec_fn=_before_exec(),
            limit=LINE_BYTES_MAX,
        )
        self.pid = process.pid
        try:
            said = await self._listen(process)
            code = await process.wait()
            log.warning("the drawing process ended", status=code, said=said)
            self._fail(f"exit status {code}: {said}")
        finally:
            self.pid = None
            await asyncio.shield(_end(process))

    async def _listen(self, process: asyncio.subprocess.Process) -> str:
        """Read what the child prints until it ends; returns its last line."""
        assert process.stdout is not None
        last = ""
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line longer than LINE_BYTES_MAX
                continue
            if not line:
                return last
            last = line.decode(errors="replace").strip()
            if line.strip() == READY and self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
            else:
                log.info("the drawing process said", line=last)

    def _fail(self, why: str) -> None:
        """Whoever waits for a start that failed is told so; the next request waits for the next start."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(TilerUnavailable(why=why))
            self._ready.exception()  # it was looked at, also when nobody waits
        else:
            self._ready = asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def _listening(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket in a folder that only we may enter, and an address for it.

    The address goes through a descriptor of the folder, since the kernel takes 107 letters and data folders are deeper.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / SOCKET).unlink(missing_ok=True)
    entered = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{entered}/{SOCKET}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(WAITING_MAX)
            yield listening, address
    finally:
        (folder / SOCKET).unlink(missing_ok=True)
        os.close(entered)


def _before_exec() -> Callable[[], None]:
    """What the forked child does to itself. Unlike an attempt it has no bound on CPU time: it lives long."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def apply() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for kind, value in (
            (resource.RLIMIT_DATA, MEMORY_MIB * MIB),
            (resource.RLIMIT_NOFILE, FILES_OPEN_MAX),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(kind)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))

    return apply


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the child to stop, then make it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
