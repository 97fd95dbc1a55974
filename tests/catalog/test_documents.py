"""Documents say what the COG is, and are valid by the published schemas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from catalog.cogs import STATISTICS, band, cog
from catalog.stac_schemas import faults
from dagmaster.catalog.documents import (
    ID_LETTERS_MAX,
    UNKNOWN_TIME,
    collection_document,
    derived_item_id,
    item_document,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLATFORM = {"dataset_id": "floods", "resource_id": "jakarta", "version_id": "v1", "access_level": "public"}
WKT2 = 'ENGCRS["local",EDATUM["local"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
RGB = [band(n, "uint8", nodata=None, color_interpretation=c) for n, c in enumerate(("red", "green", "blue"), 1)]


def item(facts: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"href_for": lambda container, path: f"/assets/{container}/{path}", "now": NOW, **more}
    return item_document("i", "c", facts or cog(), **given)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(collection_document("c"), id="bare"),
        pytest.param(collection_document("c", title="T", bounds=(170, -20, -170, 10), platform=PLATFORM), id="full"),
    ],
)
def test_collection_is_valid(document: dict[str, Any]) -> None:
    assert faults(document) == []


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(item(), id="one band"),
        pytest.param(item(title="T", tags=["a"], platform=PLATFORM, lineage="made", moment=NOW), id="all that can be said"),
        pytest.param(item(span=(NOW, NOW + timedelta(days=1))), id="span"),
        pytest.param(item(cog(epsg=None, wkt2=WKT2, crs="local")), id="no EPSG code"),
        pytest.param(item(cog(bounds_4326=[170.0, -20.0, -170.0, -10.0])), id="antimeridian"),
        pytest.param(item(cog(raster_bands=RGB, dtype="uint8", rescale=None, colormap=None, nodata=None)), id="rgb"),
        pytest.param(item(cog(raster_bands=[band(nodata="nan", description="NDVI")])), id="nan"),
        pytest.param(item(cog(raster_bands=[band(statistics=None)], rescale=None)), id="no statistics"),
    ],
)  # fmt: skip
def test_item_is_valid(document: dict[str, Any]) -> None:
    assert faults(document) == []


@pytest.mark.parametrize(
    "broken",
    [
        item() | {"links": []},
        item() | {"stac_version": "1.0.0"},
        item(cog(raster_bands=[band(data_type="bool")])),
        item(cog(file_checksum="not a digest")),
        item(cog(shape=[1, 2, 3])),
    ],
)
def test_invalid_item_is_found(broken: dict[str, Any]) -> None:
    assert faults(broken)


def test_checksum_is_a_multihash_of_sha256() -> None:
    data = item()["assets"]["data"]
    assert data["file:checksum"] == "1220" + "ab" * 32
    assert data["file:size"] == 123456


def test_assets_have_types_and_roles() -> None:
    assets = item()["assets"]
    assert assets["data"]["href"] == "/assets/silver-cogs/cogs/ndvi_analysis.tif"
    assert assets["data"]["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert assets["thumbnail"]["type"] == "image/png"
    assert (assets["data"]["roles"], assets["thumbnail"]["roles"]) == (["data"], ["thumbnail"])


def test_band_says_type_nodata_and_statistics_without_percentiles() -> None:
    document = item(cog(raster_bands=[band(nodata="nan", description="NDVI")]))
    wanted = {name: value for name, value in STATISTICS.items() if name not in ("p2", "p98")}
    assert document["assets"]["data"]["raster:bands"] == [
        {"data_type": "float32", "nodata": "nan", "description": "NDVI", "statistics": wanted}
    ]


def test_nodata_of_zero_is_said() -> None:
    assert item(cog(raster_bands=[band(nodata=0.0)]))["assets"]["data"]["raster:bands"][0]["nodata"] == 0.0


def test_projection_is_named_by_code_else_by_text() -> None:
    coded, worded = item()["properties"], item(cog(epsg=None, wkt2=WKT2))["properties"]
    assert (coded["proj:code"], coded["proj:epsg"]) == ("EPSG:32633", 32633)
    assert "proj:wkt2" not in coded
    assert (worded["proj:code"], worded["proj:wkt2"]) == (None, WKT2)
    assert "proj:epsg" not in worded
    assert coded["proj:shape"] == [100, 100]


def test_render_of_a_single_band_keeps_fractions_and_negatives() -> None:
    assert item()["properties"]["renders"]["default"] == {
        "title": "Default",
        "assets": ["data"],
        "bidx": [1],
        "rescale": [[-0.2, 0.8]],
        "colormap_name": "rdylgn",
    }


def test_render_of_a_picture_takes_three_bands_as_they_are() -> None:
    facts = cog(raster_bands=[*RGB, RGB[0]], dtype="uint8", rescale=[[0, 255]] * 4, colormap=None)
    assert item(facts)["properties"]["renders"]["default"] == {
        "title": "Default",
        "assets": ["data"],
        "bidx": [1, 2, 3],
    }


def test_render_of_many_bands_stretches_the_first_three() -> None:
    facts = cog(raster_bands=[band(n) for n in range(1, 7)], rescale=[[n, n + 1] for n in range(6)], colormap=None)
    assert item(facts)["properties"]["renders"]["default"]["rescale"] == [[0, 1], [1, 2], [2, 3]]


def test_platform_names_are_said_only_when_given() -> None:
    given = item(platform=PLATFORM | {"version_id": None})["properties"]
    assert {name: value for name, value in given.items() if name.startswith("platform:")} == {
        "platform:dataset_id": "floods",
        "platform:resource_id": "jakarta",
        "platform:access_level": "public",
    }
    assert not [name for name in item()["properties"] if name.startswith("platform:")]
    assert collection_document("c", platform=PLATFORM)["platform:dataset_id"] == "floods"


def test_time_is_a_span_a_moment_or_the_sentinel() -> None:
    berlin = timezone(timedelta(hours=1))
    span = item(span=(datetime(2020, 1, 1, tzinfo=berlin), NOW), moment=NOW)["properties"]
    assert (span["datetime"], span["start_datetime"]) == ("2019-12-31T23:00:00Z", "2019-12-31T23:00:00Z")
    assert span["end_datetime"] == "2026-11-23T12:00:00Z"
    assert item(moment=NOW)["properties"]["datetime"] == "2026-11-23T12:00:00Z"
    assert item()["properties"]["datetime"] == UNKNOWN_TIME == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("bounds", "kind", "wests"),
    [
        ([10, 50, 11, 51], "Polygon", [10]),
        ([170, -20, -170, -10], "MultiPolygon", [170, -180]),
        ([170, -20, -180, -10], "Polygon", [170]),
        ([180, -20, -170, -10], "Polygon", [-180]),
        ([10, 50, 10, 50], "Polygon", [10]),
    ],
)
def test_footprint_is_split_at_the_antimeridian(bounds: list[float], kind: str, wests: list[float]) -> None:
    document = item(cog(bounds_4326=bounds))
    geometry = document["geometry"]
    polygons = geometry["coordinates"] if kind == "MultiPolygon" else [geometry["coordinates"]]
    assert (document["bbox"], geometry["type"]) == (bounds, kind)
    assert [polygon[0][0][0] for polygon in polygons] == wests
    for (ring,) in polygons:
        assert ring[0] == ring[-1]
        assert sum((b[0] - a[0]) * (b[1] + a[1]) for a, b in pairwise(ring)) <= 0


@pytest.mark.parametrize(
    ("blob", "platform", "wanted"),
    [
        ("cogs/ndvi_analysis.tif", None, "c-cogs-ndvi_analysis"),
        ("a/v1.2/dem.2020.tif", None, "c-a-v1-2-dem-2020"),
        ("cogs/x.tif", {"dataset_id": "floods", "resource_id": None, "version_id": "v1"}, "c-cogs-x"),
        ("cogs/x.tif", {"dataset_id": "My Floods", "resource_id": "jakarta_1", "version_id": "v1.0"}, "my-floods-jakarta-1-v1.0"),
    ],
)  # fmt: skip
def test_item_id_follows_the_platform_else_the_file(
    blob: str, platform: dict[str, str | None] | None, wanted: str
) -> None:
    assert derived_item_id("c", blob, platform) == wanted


def test_item_ids_of_different_files_differ_and_are_fit_for_urls() -> None:
    blobs = ["a/ü.tif", "a/ö.tif", "a/x y.tif", "a/xy.tif", "a/" + "n" * 300 + ".tif", "a/" + "n" * 301 + ".tif"]
    found = {derived_item_id("c", blob) for blob in blobs}
    assert len(found) == len(blobs)
    assert all(name.isascii() and len(name) <= ID_LETTERS_MAX and " " not in name for name in found)
    assert derived_item_id("c", "a.tif", dict.fromkeys(("dataset_id", "resource_id", "version_id"), "ü"))[0].isalnum()
