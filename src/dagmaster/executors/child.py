"""The child process: one task at a time, read from and answered over a socket that is not stdout.

Started as `python -m dagmaster.executors.child FD`. The parent has emptied the environment and set limits
and GDAL settings before this module is imported, so no driver outside the allow-list is ever registered.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import struct
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from dagmaster import handlers
from dagmaster.contract.messages import Key, Task
from dagmaster.errors import DagmasterError
from dagmaster.executors.attempt import AttemptContext, run_attempt
from dagmaster.executors.base import Outcome
from dagmaster.handlers import outside
from dagmaster.storages import open_storage

HEADER = struct.Struct(">I")
FRAME_BYTES_MAX = 64 * 1024 * 1024
END_OF_TALK = "\x1eend of "
"""With the attempt's token this ends what it has printed."""


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    body = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS)
    sock.sendall(HEADER.pack(len(body)) + body)


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """The next frame, or None when the parent has gone."""
    header = _exactly(sock, HEADER.size)
    if header is None:
        return None
    body = _exactly(sock, HEADER.unpack(header)[0])
    return None if body is None else orjson.loads(body)


def _exactly(sock: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        piece = sock.recv(count - len(parts))
        if not piece:
            return None
        parts += piece
    return bytes(parts)


class Child:
    """Serves tasks until the parent closes the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.cancelled = threading.Event()
        self.sending = threading.Lock()

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.cancelled.set())
        self.say({"kind": "ready"})
        while (request := receive(self.sock)) is not None:
            self.cancelled.clear()
            task = _task(request["task"])
            outcome = self.run(task, request)
            _end_talk(task)
            self.say(
                {
                    "kind": "done",
                    "completed": outcome.completed,
                    "output": outcome.output,
                    "error": outcome.error,
                    "effects": outcome.effects,
                }
            )

    def run(self, task: Task, request: dict[str, Any]) -> Outcome:
        context = AttemptContext(
            task=task,
            scratch=Path(request["scratch"]),
            job_scratch=Path(request["job_scratch"]),
            storage=open_storage(request["storage"]),
            on_progress=lambda percent, message: self.say({"kind": "progress", "percent": percent, "message": message}),
            on_log=lambda message, fields: self.say({"kind": "log", "message": message, "fields": fields}),
            on_checkpoint=self.checkpoint,
            is_cancelled=self.cancelled.is_set,
        )
        os.chdir(context.scratch)
        try:
            home = request.get("home")
            handler = outside.load(task.handler, home) if home else handlers.load(task.handler)
        except DagmasterError as error:
            return Outcome(False, error=error.as_dict())
        return run_attempt(handler, task, context)

    def checkpoint(self, phase: int, data: dict[str, Any]) -> None:
        """Hand the checkpoint to the parent and wait until it is durable."""
        self.say({"kind": "checkpoint", "phase": phase, "data": data})
        answer = receive(self.sock)
        if answer is None or not answer.get("saved"):
            self.cancelled.set()

    def say(self, message: dict[str, Any]) -> None:
        with self.sending:
            send(self.sock, message)


def _task(given: dict[str, Any]) -> Task:
    return Task(**given | {"key": Key(*given["key"]), "queued_at": datetime.fromisoformat(given["queued_at"])})


def _end_talk(task: Task) -> None:
    """Whatever was printed is on its way before the attempt's end is said. A handler may have closed its stdout."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        os.write(1, f"{END_OF_TALK}{task.token}\n".encode())


def main() -> None:
    faulthandler.enable()
    for name in sys.argv[2:]:
        handlers.load(name)
    Child(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
