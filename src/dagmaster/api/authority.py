"""What the endpoints work with; `run/` puts it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.db.connect import Pool
from dagmaster.engine.status import JobReader


@dataclass
class Authority:
    """The one place that may create and change jobs."""

    pool: Pool
    handlers: Mapping[str, HandlerSpec]
    workflow_folders: tuple[Path, ...] = ()
    ring_inbox: Callable[[], None] = lambda: None
    """Tell the orchestrators that there are messages."""
    reader: JobReader = field(init=False)
    started: float = field(default_factory=monotonic)

    def __post_init__(self) -> None:
        self.reader = JobReader(self.pool)
