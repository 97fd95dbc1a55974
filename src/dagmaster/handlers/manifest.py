"""Which handlers there are and what they take and return, known without importing one of them.

`python -m dagmaster.handlers.manifest` writes the file of the bundled ones again; a test keeps it current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import structlog
from pydantic import ValidationError

from dagmaster import handlers
from dagmaster.contract.handlers import HandlerSpec
from dagmaster.db.connect import CONNECT_TIMEOUT_SECONDS
from dagmaster.db.statements import SQL
from dagmaster.db.worker import WorkerRow

FILE = Path(__file__).with_name("manifest.json")
FRESH_SECONDS = 0.1
"""Workers are not asked again within this time, so that a flood of unknown names costs one query."""
ANSWER_MILLISECONDS_MAX = 2000
TRIES = 2
"""The second with a new connection: the server may have been started again since."""

log = structlog.get_logger("dagmaster.handlers")


@cache
def bundled_specs() -> dict[str, HandlerSpec]:
    """The specs of the bundled handlers, by name."""
    return {name: HandlerSpec(**spec) for name, spec in json.loads(FILE.read_text("utf-8")).items()}


class KnownHandlers(Mapping[str, HandlerSpec]):
    """The handlers given, and those that live workers announce; the workers are asked when a name is not known.

    The question blocks for the millisecond it takes: those who look a name up decide at once and cannot wait.
    What was announced once stays known as long as this process lives, so that its tasks wait for another worker.
    """

    def __init__(self, given: Mapping[str, HandlerSpec], uri: str, *, passed_over: str | None = None) -> None:
        self._given = dict(given)
        self._announced: dict[str, HandlerSpec] = {}
        self._uri = uri
        self._passed_over = passed_over
        """Workers whose names begin so are not listened to: they are of this process, or dead."""
        self._conn: psycopg.Connection[Any] | None = None
        self._asked_at = float("-inf")

    def __getitem__(self, name: str) -> HandlerSpec:
        if name not in self._given and name not in self._announced:
            self._ask()
        return self._given[name] if name in self._given else self._announced[name]

    def __iter__(self) -> Iterator[str]:
        self._ask()
        return iter(sorted(self._announced.keys() | self._given.keys()))

    def __len__(self) -> int:
        return len(self._announced.keys() | self._given.keys())

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _ask(self) -> None:
        if monotonic() - self._asked_at < FRESH_SECONDS:
            return
        for _ in range(TRIES):
            try:
                workers = self._live_workers()
            except psycopg.Error as problem:
                log.warning("the workers' handlers could not be read", problem=str(problem))
                self.close()
            else:
                self._asked_at = monotonic()
                for worker in workers:
                    if self._passed_over is None or not worker.worker_id.startswith(self._passed_over):
                        self._learn(worker)
                return

    def _learn(self, worker: WorkerRow) -> None:
        for name, document in worker.handlers.items():
            try:
                spec = HandlerSpec(**document)
            except ValidationError:
                log.warning("a worker of another release announces a handler in a form of its own", handler=name)
                continue
            if name not in self._announced or spec.version >= self._announced[name].version:
                self._announced[name] = spec

    def _live_workers(self) -> list[WorkerRow]:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(
                self._uri,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                options=f"-c statement_timeout={ANSWER_MILLISECONDS_MAX}",
            )
        return [WorkerRow(*row) for row in self._conn.execute(SQL["live_workers"]).fetchall()]


def text() -> str:
    """The manifest as it should be; imports every handler."""
    specs = {name: handlers.load(name).spec().model_dump(mode="json") for name in sorted(handlers.BUNDLED)}
    return json.dumps(specs, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    print(f"wrote {FILE.name}: {len(handlers.BUNDLED)} handlers")
