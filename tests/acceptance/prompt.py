"""The program started once and forked for each command, so that a table of many commands pays for its imports once.

What runs is the `main` of the console script, in a process of its own for every command, with its own arguments,
environment, output and exit code. Used as a module it talks to such a program; run as a script it is one.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

STREAMS = ((1, "stdout"), (2, "stderr"))


@dataclass(frozen=True)
class Done:
    """How a command ended, what it printed, and what it used from its first line on."""

    code: int
    stdout: str
    stderr: str
    cpu_seconds: float = 0.0
    memory_mib: float = 0.0


class Prompt:
    """Commands may run side by side, from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self.address = str(self.folder / "prompt")
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.address], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def run(self, words: tuple[str, ...], environment: Mapping[str, str], timeout: float = 120) -> Done:
        with tempfile.TemporaryDirectory(dir=self.folder) as talk, socket.socket(socket.AF_UNIX) as line:
            line.settimeout(timeout)
            line.connect(self.address)
            request = {"words": words, "environment": dict(environment), "talk": talk}
            with line.makefile("rw") as channel:
                channel.write(json.dumps(request) + "\n")
                channel.flush()
                answer = json.loads(channel.readline())
            stdout, stderr = ((Path(talk) / name).read_text() for _, name in STREAMS)
            return Done(answer["code"], stdout, stderr, answer["cpu_seconds"], answer["memory_mib"])


class Command(socketserver.StreamRequestHandler):
    """One command, in a process that was forked for it."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        for number, name in STREAMS:
            os.dup2(os.open(f"{request['talk']}/{name}", os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["dagmaster", *request["words"]]
        before = resource.getrusage(resource.RUSAGE_SELF)
        code = run_main()
        sys.stdout.flush()
        sys.stderr.flush()
        used = resource.getrusage(resource.RUSAGE_SELF)
        answer = {
            "code": code,
            "cpu_seconds": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
            "memory_mib": (used.ru_maxrss - before.ru_maxrss) / 1024,
        }
        self.wfile.write(f"{json.dumps(answer)}\n".encode())


def run_main() -> int:
    """The exit code, as the interpreter makes it."""
    from dagmaster.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # what the interpreter would do
        traceback.print_exc()
        return 1
    return 0


class Commands(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """A process for every connection."""

    request_queue_size = 64


if __name__ == "__main__":
    # What commands import once they run is paid for before the first of them.
    import dagmaster.cli.shared
    import dagmaster.cli.tryout
    import dagmaster.run.local  # noqa: F401

    with Commands(sys.argv[1], Command) as server:
        print("ready", flush=True)  # noqa: T201  # the other half waits for it
        server.serve_forever()
