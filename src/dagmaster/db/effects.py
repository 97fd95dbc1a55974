"""The outbox of publications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dagmaster.contract.messages import Key
from dagmaster.db.connect import Connection, dumps
from dagmaster.db.statements import SQL


@dataclass(frozen=True, slots=True)
class EffectRow:
    """One publication that an accepted attempt asked for."""

    id: int
    shard: int
    job_id: str
    key: Key
    attempt: int
    position: int
    kind: str
    body: dict[str, Any]
    failures: int

    @property
    def token(self) -> str:
        return f"{self.job_id}-{self.key.ordinal}-{self.key.item + 1}-{self.attempt}"


async def due(conn: Connection) -> list[EffectRow]:
    """The effects of the attempt that has waited longest, locked until the transaction ends."""
    rows = await (await conn.execute(SQL["due_effects"])).fetchall()
    return [EffectRow(r[0], r[1], r[2], Key(r[3], r[4]), *r[5:]) for r in rows]


async def children_outputs(
    conn: Connection, job_id: str, ordinal: int, after: int, limit: int
) -> list[tuple[int, Any]]:
    """Item and output of the next completed children of a fan-out, ordered by item."""
    given = {"job_id": job_id, "ordinal": ordinal, "after": after, "limit": limit}
    return [(r[0], r[1]) for r in await (await conn.execute(SQL["children_outputs"], given)).fetchall()]


async def children_errors(conn: Connection, job_id: str, ordinal: int) -> list[tuple[int, Any]]:
    """Item and error of the children that did not complete, ordered by item."""
    given = {"job_id": job_id, "ordinal": ordinal}
    return [(r[0], r[1]) for r in await (await conn.execute(SQL["children_errors"], given)).fetchall()]


async def settle(conn: Connection, effects: Sequence[EffectRow], answer: dict[str, Any]) -> None:
    """The effects are done with: out of the outbox, and the job hears of it."""
    first = effects[0]
    await conn.execute(SQL["delete_effects"], {"ids": [effect.id for effect in effects]})
    await conn.execute(SQL["insert_message"], {"job_id": first.job_id, "kind": "published", "body": dumps(answer)})


async def postpone(conn: Connection, effects: Sequence[EffectRow], delay: timedelta) -> None:
    await conn.execute(SQL["postpone_effects"], {"ids": [effect.id for effect in effects], "delay": delay})


async def record_artifact(conn: Connection, effect: EffectRow, container: str, path: str, size_bytes: int) -> None:
    """Write down where a visible object came from."""
    await conn.execute(
        SQL["write_artifact"],
        {
            "container": container,
            "path": path,
            "job_id": effect.job_id,
            "ordinal": effect.key.ordinal,
            "item": effect.key.item,
            "attempt": effect.attempt,
            "size_bytes": size_bytes,
        },
    )
