"""The port behind which catalogs stand: the embedded one, or pgSTAC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ItemKey:
    """The place of an item in the order of a search; the next page goes on behind it."""

    starts_at: datetime
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

    async def get_collection(self, collection_id: str) -> dict[str, Any] | None: ...

    async def collections(self) -> list[dict[str, Any]]: ...

    async def get_item(self, collection_id: str, item_id: str) -> dict[str, Any] | None: ...

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
        """Items, newest first. A box with west > east crosses the antimeridian; times are inclusive."""
