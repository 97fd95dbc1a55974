"""Builds STAC documents from facts. Pure: no storage, no database.

Core 1.1.0 with projection 1.2, raster 1.1, render 2.0, processing 1.2 and file 2.1 (docs/adr/0004-stac-1.1-items.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

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
    title: str | None = None,
    tags: list[str] | None = None,
    platform: Mapping[str, str | None] | None = None,
    moment: str | None = None,
    lineage: str | None = None,
) -> dict[str, Any]:
    """An item for one COG; `cog` is the output of `raster.create_cog`."""
    bounds: Bounds = tuple(cog["bounds_4326"])
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    properties: dict[str, Any] = {"datetime": moment or UNKNOWN_TIME, "created": now, "updated": now}
    properties |= {"title": title} if title else {}
    properties |= {"keywords": tags} if tags else {}
    properties |= projection_fields(cog) | platform_fields(platform or {})
    properties["renders"] = renders(cog)
    properties["processing:software"] = {"dagmaster": "0.1"}
    properties |= {"processing:lineage": lineage} if lineage else {}
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": ITEM_EXTENSIONS,
        "id": item_id,
        "collection": collection_id,
        "geometry": footprint(bounds),
        "bbox": list(bounds),
        "properties": properties,
        "links": [{"rel": "collection", "href": f"/stac/collections/{collection_id}", "type": "application/json"}],
        "assets": assets(cog, href_for),
    }


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
            "raster:bands": [raster_band(band, cog) for band in cog["raster_bands"]],
        },
        "thumbnail": {
            "href": href_for(cog["cog_container"], cog["preview_blob"]),
            "type": "image/png",
            "title": "Preview",
            "roles": ["thumbnail"],
        },
    }


def raster_band(band: Mapping[str, Any], cog: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of raster:bands."""
    entry: dict[str, Any] = {"data_type": band["data_type"], "spatial_resolution": cog["resolution"][0]}
    if band.get("nodata") is not None:
        entry["nodata"] = band["nodata"]
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
        "proj:epsg": cog.get("epsg"),
    }
    if cog.get("epsg"):
        fields["proj:code"] = f"EPSG:{cog['epsg']}"
    else:
        fields["proj:wkt2"] = cog["wkt2"]
    return fields


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
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    rings = [[_ring(west, south, 180.0, north)], [_ring(-180.0, south, east, north)]]
    return {"type": "MultiPolygon", "coordinates": rings}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    """Counter-clockwise, closed (RFC 7946)."""
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def platform_fields(platform: Mapping[str, str | None]) -> dict[str, Any]:
    """`platform:*` for what was given."""
    return {f"platform:{name}": value for name, value in platform.items() if value}


def derived_item_id(collection_id: str, cog_blob: str) -> str:
    """`{collection}-{stem}`: the blob's own folder is part of it, so that equal file names do not collide."""
    path = PurePosixPath(cog_blob).with_suffix("")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{collection_id}-{'-'.join(path.parts)}").strip("-")
