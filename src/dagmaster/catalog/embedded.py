"""The catalog of the local profile: STAC documents as rows of plain Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagmaster.catalog.base import Found, ItemKey
from dagmaster.db.connect import Pool, dumps
from dagmaster.db.statements import statements
from dagmaster.errors import CatalogInvalid

SQL = statements(Path(__file__).parent / "sql")


class EmbeddedCatalog:
    """Collections and items beside the control plane."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def put_collection(self, document: dict[str, Any], fence: str) -> None:
        async with self.pool.connection() as conn:
            given = {"id": document["id"], "document": dumps(document), "token": fence}
            await conn.execute(SQL["put_collection"], given)

    async def put_item(self, collection_id: str, document: dict[str, Any], fence: str) -> None:
        west, south, east, north = box_of(document)
        starts_at, ends_at = times_of(document)
        async with self.pool.connection() as conn, conn.transaction():
            if await (await conn.execute(SQL["lock_collection"], {"id": collection_id})).fetchone() is None:
                raise CatalogInvalid(problem=f"there is no collection {collection_id}")
            await conn.execute(
                SQL["put_item"],
                {
                    "collection_id": collection_id,
                    "id": document["id"],
                    "west": west,
                    "south": south,
                    "east": east,
                    "north": north,
                    "starts_at": starts_at,
                    "ends_at": ends_at,
                    "document": dumps(document),
                    "token": fence,
                },
            )
            await conn.execute(SQL["refresh_extent"], {"collection_id": collection_id})

    async def get_collection(self, collection_id: str) -> dict[str, Any] | None:
        return await self._one("get_collection", {"id": collection_id})

    async def collections(self) -> list[dict[str, Any]]:
        async with self.pool.connection() as conn:
            return [row[0] for row in await (await conn.execute(SQL["list_collections"])).fetchall()]

    async def get_item(self, collection_id: str, item_id: str) -> dict[str, Any] | None:
        return await self._one("get_item", {"collection_id": collection_id, "id": item_id})

    async def search(
        self,
        *,
        collections: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        bbox: tuple[float, float, float, float] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: ItemKey | None = None,
        limit: int = 10,
    ) -> list[Found]:
        west, south, east, north = bbox or (None, None, None, None)
        given = {
            "collections": list(collections) if collections else None,
            "ids": list(ids) if ids else None,
            "west": west,
            "south": south,
            "east": east,
            "north": north,
            "since": since,
            "until": until,
            "after_time": after.starts_at if after else None,
            "after_collection": after.collection_id if after else None,
            "after_id": after.item_id if after else None,
            "limit": limit,
        }
        async with self.pool.connection() as conn:
            rows = await (await conn.execute(SQL["search_items"], given)).fetchall()
        return [Found(row.document, ItemKey(row.at_utc.replace(tzinfo=UTC), row.collection_id, row.id)) for row in rows]

    async def _one(self, name: str, given: dict[str, Any]) -> dict[str, Any] | None:
        async with self.pool.connection() as conn:
            row = await (await conn.execute(SQL[name], given)).fetchone()
        return row[0] if row is not None else None


def box_of(document: dict[str, Any]) -> tuple[float, float, float, float]:
    """West, south, east and north of an item; heights are left out. Errors: CatalogInvalid."""
    bbox = document.get("bbox") or []
    if len(bbox) not in (4, 6):
        raise CatalogInvalid(problem=f"item {document.get('id')} has no bbox")
    half = len(bbox) // 2
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def times_of(document: dict[str, Any]) -> tuple[str, str]:
    """Begin and end of an item, equal when it has one time only. Errors: CatalogInvalid."""
    properties = document.get("properties") or {}
    moment = properties.get("datetime")
    starts_at, ends_at = properties.get("start_datetime") or moment, properties.get("end_datetime") or moment
    if starts_at is None or ends_at is None:
        raise CatalogInvalid(problem=f"item {document.get('id')} has no time")
    return starts_at, ends_at
