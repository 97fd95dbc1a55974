"""Builds STAC documents from facts. Pure: no storage, no database.

Core 1.1.0 with projection 1.2, raster 1.1, render 2.0, processing 1.2 and file 2.1 (docs/adr/0004-stac-1.1-items.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from dagmaster import __version__

STAC_VERSION = "1.1.0"
EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
ITEM_EXTENSIONS = [
    EXTENSION.format(name)
    for name in ("projection/v1.2.0", "raster/v1.1.0", "render/v2.0.0", "processing/v1.2.0", "file/v2.1.0")
]
COG_MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
UNKNOWN_TIME = "0001-01-01T00:00:00Z"
"""The predecessor's sentinel for "no time is known"; it never counts for the extent of a collection."""
SHA256_MULTIHASH = "1220"
"""Multihash prefix of a SHA-256 digest: function 0x12, length 0x20 bytes."""
BOUNDS_OF_THE_WORLD = (-180.0, -90.0, 180.0, 90.0)
ID_LETTERS_MAX = 255
DIGEST_LETTERS = 8
COG_FACTS = frozenset({
    "cog_blob", "cog_container", "preview_blob", "size_bytes", "file_checksum", "epsg", "wkt2", "bounds", "bounds_4326",
    "transform", "shape", "dtype", "raster_bands",
})  # fmt: skip
"""What `item_document` needs to know of a COG; `rescale` and `colormap` are used where they are."""
Bounds = tuple[float, float, float, float]


def collection_document(
    collection_id: str,
    *,
    title: str | None = None,
    bounds: Bounds | None = None,
    platform: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """A collection; its extent is replaced by the union of its items once there are some."""
    document: dict[str, Any] = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": collection_id,
        "title": title or collection_id,
        "description": title or f"Rasters of {collection_id}.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(bounds or BOUNDS_OF_THE_WORLD)]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [],
    }
    return document | platform_fields(platform or {})


def item_document(
    item_id: str,
    collection_id: str,
    cog: Mapping[str, Any],
    *,
    href_for: Callable[[str, str], str],
    now: datetime,
    title: str | None = None,
    tags: list[str] | None = None,
    platform: Mapping[str, str | None] | None = None,
    moment: datetime | None = None,
    span: tuple[datetime, datetime] | None = None,
    lineage: str | None = None,
) -> dict[str, Any]:
    """An item for one COG; `cog` is the output of `raster.create_cog`, at least its `COG_FACTS`.

    Of the links it has the one without which `collection` is not valid; the others are added when it is served.
    """
    west, south, east, north = cog["bounds_4326"]
    properties = time_fields(moment, span) | {"created": time_text(now), "updated": time_text(now)}
    properties |= {"title": title} if title else {}
    properties |= {"keywords": tags} if tags else {}
    properties |= projection_fields(cog) | platform_fields(platform or {})
    properties["renders"] = renders(cog)
    properties["processing:software"] = {"dagmaster": __version__}
    properties |= {"processing:lineage": lineage} if lineage else {}
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(ITEM_EXTENSIONS),
        "id": item_id,
        "collection": collection_id,
        "geometry": footprint((west, south, east, north)),
        "bbox": [west, south, east, north],
        "properties": properties,
        "links": [{"rel": "collection", "href": f"/stac/collections/{collection_id}", "type": "application/json"}],
        "assets": assets(cog, href_for),
    }


def time_fields(moment: datetime | None, span: tuple[datetime, datetime] | None) -> dict[str, Any]:
    """`datetime`, and begin and end where both are known; a catalog cannot file an item without any time."""
    if span is not None:
        begin, end = map(time_text, span)
        return {"datetime": begin, "start_datetime": begin, "end_datetime": end}
    return {"datetime": time_text(moment) if moment else UNKNOWN_TIME}


def time_text(moment: datetime) -> str:
    """A time in UTC as STAC writes it (RFC 3339 with `Z`)."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def assets(cog: Mapping[str, Any], href_for: Callable[[str, str], str]) -> dict[str, Any]:
    """The COG and its preview."""
    return {
        "data": {
            "href": href_for(cog["cog_container"], cog["cog_blob"]),
            "type": COG_MEDIA_TYPE,
            "title": "Cloud-optimised GeoTIFF",
            "roles": ["data"],
            "file:size": cog["size_bytes"],
            "file:checksum": SHA256_MULTIHASH + cog["file_checksum"],
            "raster:bands": [raster_band(band) for band in cog["raster_bands"]],
        },
        "thumbnail": {
            "href": href_for(cog["cog_container"], cog["preview_blob"]),
            "type": "image/png",
            "title": "Preview",
            "roles": ["thumbnail"],
        },
    }


def raster_band(band: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of raster:bands. No spatial_resolution: that is in metres, the COG's is in units of its system."""
    entry: dict[str, Any] = {"data_type": band["data_type"]}
    entry |= {name: band[name] for name in ("nodata", "description") if band.get(name) is not None}
    if band.get("statistics"):
        names = ("minimum", "maximum", "mean", "stddev", "valid_percent")
        entry["statistics"] = {name: band["statistics"][name] for name in names}
    return entry


def projection_fields(cog: Mapping[str, Any]) -> dict[str, Any]:
    """proj:* for readers of pixels; a system without an EPSG code is given as WKT2."""
    fields: dict[str, Any] = {
        "proj:shape": list(cog["shape"]),
        "proj:transform": list(cog["transform"]),
        "proj:bbox": list(cog["bounds"]),
    }
    if cog["epsg"]:
        return fields | {"proj:code": f"EPSG:{cog['epsg']}", "proj:epsg": cog["epsg"]}
    return fields | {"proj:code": None, "proj:wkt2": cog["wkt2"]}


def renders(cog: Mapping[str, Any]) -> dict[str, Any]:
    """How to draw it at once: percentiles as floats, a colour ramp for single bands, the first three of several."""
    count = len(cog["raster_bands"])
    bands = [1] if count < 3 else [1, 2, 3]
    render: dict[str, Any] = {"title": "Default", "assets": ["data"], "bidx": bands}
    if cog.get("rescale") and not (cog["dtype"] == "uint8" and count >= 3):
        render["rescale"] = [[float(low), float(high)] for low, high in cog["rescale"][: len(bands)]]
    if count == 1 and cog.get("colormap"):
        render["colormap_name"] = cog["colormap"]
    return {"default": render}


def footprint(bounds: Bounds) -> dict[str, Any]:
    """The box as a polygon; two of them when it crosses the antimeridian (west > east)."""
    west, south, east, north = bounds
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    whole = [(left, right) for left, right in spans if left < right] or spans[:1]
    rings = [[_ring(left, south, right, north)] for left, right in whole]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    """Counter-clockwise, closed (RFC 7946)."""
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def platform_fields(platform: Mapping[str, str | None]) -> dict[str, Any]:
    """`platform:*` for what was given."""
    return {f"platform:{name}": value for name, value in platform.items() if value}


def derived_item_id(collection_id: str, cog_blob: str, platform: Mapping[str, str | None] | None = None) -> str:
    """`{dataset}-{resource}-{version}` where the platform names all three, else `{collection}-{folder}-{stem}`.

    The blob's own folder is part of it, so that equal file names do not collide. Where letters had to be dropped, or
    the id is too long, a digest of the whole tells apart what would look alike.
    """
    given = [(platform or {}).get(name) for name in ("dataset_id", "resource_id", "version_id")]
    if all(given):
        parts = [re.sub(r"[_\s]", "-", part.lower()) for part in given if part]
    else:
        parts = [collection_id, *(part.replace(".", "-") for part in PurePosixPath(cog_blob).with_suffix("").parts)]
    whole = "-".join(parts)
    kept = re.sub(r"[^A-Za-z0-9._-]", "", whole)
    if kept == whole and kept[0].isalnum() and len(kept) <= ID_LETTERS_MAX:
        return kept
    digest = hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_LETTERS]
    return f"{kept.lstrip('._-')[: ID_LETTERS_MAX - DIGEST_LETTERS - 1]}-{digest}".lstrip("-")
