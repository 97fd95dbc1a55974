"""The catalog of the local profile: STAC documents as rows of plain Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from psycopg.sql import Placeholder

from dagmaster.catalog.base import Found, ItemKey, Order, QueryInvalid
from dagmaster.catalog.documents import BOUNDS_OF_THE_WORLD
from dagmaster.catalog.extent import Reach
from dagmaster.catalog.filters import GEOMETRY, shapes_in
from dagmaster.catalog.pieces import piece
from dagmaster.catalog.searching import NEWEST_FIRST, Search, Statement, page
from dagmaster.db.connect import Connection, Pool, dumps
from dagmaster.db.statements import statements
from dagmaster.errors import CatalogInvalid

if TYPE_CHECKING:
    from dagmaster.catalog.shapes import Shape

SQL = statements(Path(__file__).parent / "sql")
NOTHING_KNOWN = {"spatial": {"bbox": [list(BOUNDS_OF_THE_WORLD)]}, "temporal": {"interval": [[None, None]]}}
CANDIDATES = 500
"""Items that are compared with a geometry at a time."""
CANDIDATES_MAX = 200_000
"""Items that one search compares with a geometry at most."""
SEARCH_SECONDS_MAX = 20
PROPERTIES_OF_ITEMS = 1000
"""Newest items whose properties are named as those of all."""


class EmbeddedCatalog:
    """Collections and items beside the control plane."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    # --- writing -----------------------------------------------------------------------------------

    async def put_collection(self, document: dict[str, Any], fence: str) -> None:
        async with self.pool.connection() as conn:
            given = {"id": document["id"], "document": dumps(document), "token": fence}
            await conn.execute(SQL["put_collection"], given)

    async def put_item(self, collection_id: str, document: dict[str, Any], fence: str) -> None:
        west, south, east, north = box_of(document)
        starts_at, ends_at = times_of(document)
        place = {"west": west, "south": south, "east": east, "north": north}
        given = place | {
            "collection_id": collection_id,
            "id": document["id"],
            "starts_at": starts_at,
            "ends_at": ends_at,
            "document": dumps(document),
            "token": fence,
        }
        async with self.pool.connection() as conn, conn.transaction():
            known = await (await conn.execute(SQL["lock_collection"], {"id": collection_id})).fetchone()
            if known is None:
                raise CatalogInvalid(problem=f"there is no collection {collection_id}")
            put = await (await conn.execute(SQL["put_item"], given)).fetchone()
            if put is None:
                return  # a later job's version stands there
            after = Reach.of(**place, starts_at=put.starts_at, ends_at=put.ends_at)
            before = Reach.of(**put.before) if put.before else None
            await self._write_extent(conn, collection_id, known, before, after)

    async def remove_item(self, collection_id: str, item_id: str, fence: str) -> bool:
        given = {"collection_id": collection_id, "id": item_id, "token": fence}
        async with self.pool.connection() as conn, conn.transaction():
            known = await (await conn.execute(SQL["lock_collection"], {"id": collection_id})).fetchone()
            removed = await (await conn.execute(SQL["remove_item"], given)).fetchone()
            if known is None or removed is None:
                return False
            await self._write_extent(conn, collection_id, known, Reach.of(**removed._asdict()), None)
        return True

    async def _write_extent(
        self, conn: Connection, collection_id: str, known: Any, before: Reach | None, after: Reach | None
    ) -> None:
        """The extent of a collection is the union of its items. It is widened by the one that came; all are looked at
        again only when one that it rests on shrank or went, or when somebody else wrote the extent.
        """
        reach = Reach(**known.reach) if known.reach else None
        if reach is None or reach.extent() != known.extent or (before and reach.shrinks(before, after)):
            row = await (await conn.execute(SQL["scan_reach"], {"id": collection_id})).fetchone()
            reach = Reach(**row._asdict()) if row is not None else None
        elif after is not None:
            reach = reach.widened(after)
        extent = reach.extent() if reach else NOTHING_KNOWN
        said = asdict(reach) if reach else None
        if extent != known.extent or said != known.reach:
            given = {"id": collection_id, "reach": dumps(said) if said else None, "extent": dumps(extent)}
            await conn.execute(SQL["write_extent"], given)

    # --- reading -----------------------------------------------------------------------------------

    async def get_collection(self, collection_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._one("get_collection", {"id": collection_id})
        return found

    async def collections(self) -> list[dict[str, Any]]:
        async with self.pool.connection() as conn:
            return [row[0] for row in await (await conn.execute(SQL["list_collections"])).fetchall()]

    async def get_item(self, collection_id: str, item_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._one("get_item", {"collection_id": collection_id, "id": item_id})
        return found

    async def publishes(self, href: str) -> bool:
        return bool(await self._one("publishes", {"href": href}))

    async def properties(self, collection_id: str | None = None) -> dict[str, list[str]]:
        given = {"collection_id": collection_id, "items": PROPERTIES_OF_ITEMS}
        async with self.pool.connection() as conn:
            return {row.key: row.types for row in await (await conn.execute(SQL["properties"], given)).fetchall()}

    async def search(
        self,
        *,
        collections: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        bbox: tuple[float, float, float, float] | None = None,
        intersects: dict[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        where: Any = None,
        order: Sequence[Order] = (),
        after: ItemKey | None = None,
        before: ItemKey | None = None,
        limit: int = 10,
    ) -> list[Found]:
        where, shapes = _with_shapes(where, intersects)
        search = Search(
            collections=collections or None,
            ids=ids or None,
            bbox=bbox,
            since=since,
            until=until,
            where=where,
            shapes=shapes,
            order=order or NEWEST_FIRST,
        )
        found = await self._search(search, after or before, before is not None, limit)
        return found[::-1] if before is not None else found

    async def _search(self, search: Search, place: ItemKey | None, backwards: bool, limit: int) -> list[Found]:
        """So many items behind a place, or all there are; nearest first."""
        found: list[Found] = []
        looked_at = 0
        size = max(limit, CANDIDATES) if search.shapes else limit
        async with self.pool.connection() as conn:
            while looked_at < CANDIDATES_MAX:
                rows = await _fetch(conn, search, page(search, place=place, backwards=backwards, limit=size))
                for row in await asyncio.to_thread(_matching, rows, search.shapes) if search.shapes else rows:
                    found.append(Found(orjson.loads(row.document), _key(row)))
                    if len(found) == limit:
                        return found
                if len(rows) < size:
                    return found
                looked_at += len(rows)
                place = _key(rows[-1])
        raise QueryInvalid(
            name="intersects",
            problem=f"more than {CANDIDATES_MAX} items are near",
            remedy="Name collections, or a time.",
        )

    async def _one(self, name: str, given: dict[str, Any]) -> Any:
        async with self.pool.connection() as conn:
            row = await (await conn.execute(SQL[name], given)).fetchone()
        return row[0] if row is not None else None


def _with_shapes(where: Any, intersects: dict[str, Any] | None) -> tuple[Any, list[Shape]]:
    """The whole condition, and its geometries in order. Errors: QueryInvalid."""
    named = [("filter", given) for given in shapes_in(where)] if where is not None else []
    if intersects is not None:
        alone = {"op": "s_intersects", "args": [{"property": GEOMETRY}, intersects]}
        where = alone if where is None else {"op": "and", "args": [where, alone]}
        named.append(("intersects", intersects))
    if not named:
        return where, []
    from dagmaster.catalog.shapes import shape_of  # loads numpy and GEOS, which most processes never need

    return where, [shape_of(name, given) for name, given in named]


async def _fetch(conn: Connection, search: Search, statement: Statement) -> list[Any]:
    """The rows of a page. What callers can make slow is bounded. Errors: QueryInvalid."""
    free = search.where is not None or search.order != NEWEST_FIRST
    try:
        async with conn.transaction():
            if free:
                bound = str(SEARCH_SECONDS_MAX * 1000)
                await conn.execute(piece("bounded", given=Placeholder("ms")), {"ms": bound})
            return await (await conn.execute(statement.text, statement.values)).fetchall()
    except psycopg.errors.QueryCanceled as problem:
        late = f"it takes longer than {SEARCH_SECONDS_MAX} s"
        raise QueryInvalid(name="filter", problem=late, remedy="Name collections, ids or a time.") from problem
    except psycopg.DataError as problem:
        raise QueryInvalid(
            name="token", problem="it names no place in this order", remedy="Follow the links of a page."
        ) from problem


def _matching(rows: list[Any], shapes: Sequence[Shape]) -> list[Any]:
    """Rows whose condition is true once the geometries were compared."""
    texts = [row.geometry for row in rows]
    answers = [shape.intersects(texts) for shape in shapes]
    return [
        row
        for number, row in enumerate(rows)
        if row.truths[int("".join("01"[answer[number]] for answer in answers), 2)]
    ]


def _key(row: Any) -> ItemKey:
    return ItemKey(tuple(row.keys[:-2]), row.collection_id, row.id)


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
