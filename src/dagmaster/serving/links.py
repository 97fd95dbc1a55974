"""Absolute links for the documents that the STAC API answers with. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

JSON = "application/json"
GEOJSON = "application/geo+json"
ASSETS = "/assets/"
"""Where files of ours begin; so they are stored, and made absolute when they are served."""
WRITTEN_HERE = frozenset({"self", "root", "parent", "collection", "items", "item", "tilejson"})
"""Relations that are worked out anew; what is stored under them is left out."""


class Links:
    """Addresses below the origin under which the caller reached us."""

    def __init__(self, origin: str) -> None:
        self.origin = origin.rstrip("/")
        self.root = f"{self.origin}/stac/"

    def collection_url(self, collection_id: str) -> str:
        return f"{self.root}collections/{segment(collection_id)}"

    def item_url(self, collection_id: str, item_id: str) -> str:
        return f"{self.collection_url(collection_id)}/items/{segment(item_id)}"

    def tiles_url(self, collection_id: str, item_id: str) -> str:
        return f"{self.origin}/tiles/{segment(collection_id)}/{segment(item_id)}"

    def absolute(self, href: str) -> str:
        """An address that a client may follow; stored addresses of ours begin with a slash."""
        return self.origin + href if href.startswith("/") and not href.startswith("//") else href

    def collection(self, document: dict[str, Any]) -> dict[str, Any]:
        url = self.collection_url(document["id"])
        own = [
            link("self", url, JSON),
            link("root", self.root, JSON),
            link("parent", self.root, JSON),
            link("items", f"{url}/items", GEOJSON),
        ]
        return self._finished(document, own)

    def item(self, document: dict[str, Any]) -> dict[str, Any]:
        collection_id, item_id = document["collection"], document["id"]
        collection = self.collection_url(collection_id)
        own = [
            link("self", self.item_url(collection_id, item_id), GEOJSON),
            link("root", self.root, JSON),
            link("parent", collection, JSON),
            link("collection", collection, JSON),
        ]
        if document["properties"].get("renders"):
            own.append(link("tilejson", f"{self.tiles_url(collection_id, item_id)}/tilejson.json", JSON))
        return self._finished(document, own)

    def _finished(self, document: dict[str, Any], own: list[dict[str, Any]]) -> dict[str, Any]:
        kept = [each for each in document.get("links", []) if each.get("rel") not in WRITTEN_HERE]
        made = document | {"links": own + [each | {"href": self.absolute(each["href"])} for each in kept]}
        if assets := document.get("assets"):
            made["assets"] = {name: asset | {"href": self.absolute(asset["href"])} for name, asset in assets.items()}
        return made


def link(rel: str, href: str, media_type: str, **more: Any) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media_type, **more}


def segment(text: str) -> str:
    """One piece of a path."""
    return quote(text, safe="")
