"""What items may be searched and ordered by, as JSON schemas (queryables and sortables)."""

from __future__ import annotations

from typing import Any

Types = dict[str, list[str]]
"""Names of properties, each with its JSON types."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA = "application/schema+json"
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
SORTABLES = "http://www.opengis.net/def/rel/ogc/1.0/sortables"
TIME = {"type": "string", "format": "date-time"}
TIMES = frozenset({"created", "updated", "start_datetime", "end_datetime", "published", "expires"})
OF_EVERY_ITEM: dict[str, Any] = {
    "id": {"title": "Item", "type": "string"},
    "collection": {"title": "Collection", "type": "string"},
    "datetime": {"title": "Time, or begin of a span of time", **TIME},
}
GEOMETRY = {"title": "Footprint", "format": "geometry-any", "type": "object"}


def queryables(url: str, properties: Types) -> dict[str, Any]:
    """What a filter may name; anything else that is a property may be named too."""
    return _schema(url, "Queryables", _named(properties) | {"geometry": GEOMETRY})


def sortables(url: str, properties: Types) -> dict[str, Any]:
    """What items may be ordered by."""
    return _schema(url, "Sortables", _named(properties))


def _schema(url: str, title: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": url,
        "type": "object",
        "title": title,
        "properties": properties,
        "additionalProperties": True,
    }


def _named(properties: Types) -> dict[str, Any]:
    made = dict(OF_EVERY_ITEM)
    for name, types in properties.items():
        if name not in made:
            made[name] = {"title": name, **(TIME if name in TIMES else {"type": types if len(types) > 1 else types[0]})}
    return made
