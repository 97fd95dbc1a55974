"""What a handler's own tests need: a context without an engine, which remembers all that the handler said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dagmaster.contract.handlers import Effect
from dagmaster.errors import Cancelled
from dagmaster.handlers.base import Context
from dagmaster.storages import open_storage
from dagmaster.storages.base import Storage


class TestContext:
    """A `Context` below one folder, as a test's `tmp_path` is: `run(Params(…), TestContext(tmp_path))`."""

    __test__ = False  # pytest would take the class for tests, by its name

    def __init__(self, folder: Path, *, attempt: int = 1, saved: tuple[int, dict[str, Any]] = (0, {})) -> None:
        self.job_id = "test-job"
        self.node_id = "test-node"
        self.attempt = attempt
        self.attempt_token = f"test-attempt-{attempt}"
        self.scratch = folder / "scratch"
        self.job_scratch = folder / "shared"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.job_scratch.mkdir(parents=True, exist_ok=True)
        self.storage: Storage = open_storage(f"file:{folder / 'storage'}")
        self.progressed: list[tuple[float, str]] = []
        """Percent and message of every report."""
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.effects: list[Effect] = []
        """The publications asked for."""
        self.saved = saved
        """The last checkpoint; give one to start as a resumed attempt does."""
        self.is_cancelled = False
        """Set it to see that the handler stops."""

    def progress(self, percent: float, message: str = "") -> None:
        if self.is_cancelled:
            raise Cancelled
        self.progressed.append((percent, message))

    def cancelled(self) -> bool:
        return self.is_cancelled

    def log(self, message: str, **fields: Any) -> None:
        self.logged.append((message, fields))

    def publish(self, effect: Effect) -> None:
        self.effects.append(effect)

    def checkpoint(self, phase: int, data: dict[str, Any]) -> None:
        self.saved = (phase, data)

    def resume(self) -> tuple[int, dict[str, Any]]:
        return self.saved


def _keeps_the_promise(context: TestContext) -> Context:
    """Only for the type checker."""
    return context
