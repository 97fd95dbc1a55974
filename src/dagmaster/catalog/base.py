"""The port behind which catalogs stand: the embedded one, or pgSTAC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dagmaster.errors import Refused


class QueryInvalid(Refused):
    """`{name}` cannot be searched by: {problem}."""

    code = "QUERY_INVALID"
    explanation = (
        "A search takes collections, ids, bbox, intersects, datetime, filter, sortby, fields, limit and token, "
        "as the STAC API describes them (docs/reference/stac-api.md)."
    )


@dataclass(frozen=True, slots=True)
class Order:
    """One property by which found items are ordered."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ItemKey:
    """The place of an item in the order of a search; the next page goes on behind it.

    `values` are those of the order, as text that only the catalog reads.
    """

    values: tuple[str, ...]
    collection_id: str
    item_id: str


@dataclass(frozen=True, slots=True)
class Found:
    """An item that a search found."""

    document: dict[str, Any]
    key: ItemKey


class Catalog(Protocol):
    """STAC collections and items. `fence` is the token of the attempt that asks; an older job's never wins."""

    async def put_collection(self, document: dict[str, Any], fence: str) -> None:
        """Make the collection, or renew what the workflow says of it; what people edited stays."""

    async def put_item(self, collection_id: str, document: dict[str, Any], fence: str) -> None:
        """Put an item into an existing collection and widen its extent. Errors: CatalogInvalid."""

    async def remove_item(self, collection_id: str, item_id: str, fence: str) -> bool:
        """Take an item out of its collection and narrow the extent; False when there is none to take."""

    async def get_collection(self, collection_id: str) -> dict[str, Any] | None: ...

    async def collections(self) -> list[dict[str, Any]]: ...

    async def get_item(self, collection_id: str, item_id: str) -> dict[str, Any] | None: ...

    async def publishes(self, href: str) -> bool:
        """Whether the file at this address is an asset of an item or a collection."""

    async def properties(self, collection_id: str | None = None) -> dict[str, list[str]]:
        """Names of item properties that hold single values, each with its JSON types."""

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
        """Items in the order asked for, newest first by default. A box with west > east crosses the antimeridian,
        times are inclusive, `intersects` is a GeoJSON geometry, `where` a CQL2 expression as JSON. Of the items before
        a place, those nearest to it are given. Errors: QueryInvalid.
        """
