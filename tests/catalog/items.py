"""Items and collections for tests of the catalog; a test names only what it is about."""

from __future__ import annotations

from typing import Any

from dagmaster.catalog.documents import footprint

UNKNOWN_TIME = "0001-01-01T00:00:00Z"
JOB = "019b0000-0000-7000-8000-000000000000"
WORLD = [-180.0, -90.0, 180.0, 90.0]
Box = tuple[float, float, float, float]


def fence(job: str = JOB, ordinal: int = 4, attempt: int = 1) -> str:
    return f"{job}-{ordinal}-0-{attempt}"


def collection(collection_id: str = "c", **more: Any) -> dict[str, Any]:
    return {
        "id": collection_id,
        "title": "Title of the workflow",
        "description": "Description of the workflow",
        "extent": {"spatial": {"bbox": [WORLD]}, "temporal": {"interval": [[None, None]]}},
        **more,
    }


def item(
    item_id: str = "i", bbox: Box = (0, 0, 1, 1), moment: str | None = UNKNOWN_TIME, **properties: Any
) -> dict[str, Any]:
    return {
        "id": item_id,
        "bbox": list(bbox),
        "geometry": footprint(bbox),
        "properties": {"datetime": moment, **properties},
    }
