"""Puts the outputs of a fan-out's children together: page by page out of the store, so that memory stays flat.

A list that is too long for a database row becomes one line of JSON per item in the storage, and the fan-in's
output names it.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from dagmaster.dag.aggregate import LISTS, Gathering
from dagmaster.db import effects as outbox
from dagmaster.db.connect import Connection
from dagmaster.errors import AggregationFailed
from dagmaster.storages.base import Storage

PAGE = 5_000
"""Children read at a time."""
INLINE_BYTES_MAX = 1024 * 1024
"""A list up to this size is part of the fan-in's output; a longer one lies in the storage."""
CONTAINER = "results"


class Spool:
    """Items in memory while they are few, in a temporary file from then on."""

    def __init__(self, *, always: bool) -> None:
        self.items: list[Any] = []
        self.size_bytes = 0
        self.always = always
        self.file: Any = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is not None:
            self.file.close()

    def extend(self, items: list[Any]) -> None:
        lines = b"".join(orjson.dumps(item) + b"\n" for item in items)
        self.size_bytes += len(lines)
        if self.file is not None:
            self.file.write(lines)
            return
        self.items += items
        if self.size_bytes > INLINE_BYTES_MAX:
            self.spill()

    def spill(self) -> None:
        self.file = tempfile.NamedTemporaryFile(suffix=".ndjson")  # noqa: SIM115  # closed by __exit__
        self.file.write(b"".join(orjson.dumps(item) + b"\n" for item in self.items))
        self.items = []

    def path(self) -> Path | None:
        """The file with all items, when they do not fit or are wanted there."""
        if self.file is None and self.always:
            self.spill()
        if self.file is None:
            return None
        self.file.flush()
        return Path(self.file.name)


async def gather(conn: Connection, storage: Storage, effect: outbox.EffectRow) -> dict[str, Any]:
    """The output of the fan-in that the effect stands for. Errors: AggregationFailed, StorageError."""
    mode, ordinal = effect.body["aggregation"], effect.body["ordinal"]
    folded = Gathering(mode)
    with Spool(always=mode == "manifest") as spool:
        after = -1
        try:
            while page := await outbox.children_outputs(conn, effect.job_id, ordinal, after, PAGE):
                after = page[-1][0]
                spool.extend([item for _, output in page for item in folded.add(output)])
            for index, error in await outbox.children_errors(conn, effect.job_id, ordinal):
                folded.add_error(index, error)
            output = folded.result()
        except ValueError as problem:
            raise AggregationFailed(aggregation=mode, problem=problem) from problem
        if mode not in LISTS:
            return output
        path = spool.path()
        if path is None:
            return {"results": spool.items} | output
        name = f"{effect.job_id}/{effect.body['node']}.ndjson"
        staged = await asyncio.to_thread(storage.stage, path, CONTAINER, name, effect.token)
        await asyncio.to_thread(storage.publish, staged, CONTAINER, name)
        await outbox.record_artifact(conn, effect, CONTAINER, name, spool.size_bytes)
        return {"results": {"href": f"{CONTAINER}/{name}", "size_bytes": spool.size_bytes}} | output
