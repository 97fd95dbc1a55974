"""What clients of others make of the served API: a validator, GDAL, and the readers of pixels."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac_client
import pytest
import rasterio
from rasterio.crs import CRS

from catalog.cogs import cog
from catalog.items import fence
from catalog.stac_schemas import EXTENSIONS
from dagmaster.catalog.documents import item_document
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.geo.raster.cog import write_cog
from geo.factories import make_raster
from serving.conftest import Served

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALIDATOR = Path(__file__).with_name("validate_api.py")
CLASSES = ["core", "collections", "features", "features#filter", "features#sort", "features#fields", "item-search", "filter",
           "item-search#filter", "item-search#sort", "item-search#fields"]  # fmt: skip
FALSE_ALARMS = ('"collections": "a"} had unexpected status code 400',)
"""The validator's test of sorting by POST sends `collections` as text; the specification has an array."""


async def ran(*words: str, environment: dict[str, str] | None = None) -> str:
    """What a program prints, without holding up the server that it asks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    out, err = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.skipif(not EXTENSIONS.is_dir(), reason=f"the schemas of the STAC extensions are not at {EXTENSIONS}")
async def test_validator_of_stac_apis_finds_no_error(served: Served, catalog: EmbeddedCatalog) -> None:
    for number in range(25):  # its tests of pages want more than two of them
        facts = cog(bounds_4326=[number, 10.0, number + 1.0, 11.0])
        document = item_document(
            f"i{number}", "a", facts, href_for=lambda box, path: f"/assets/{box}/{path}", now=NOW, moment=NOW
        )
        document["properties"]["eo:cloud_cover"] = number
        await catalog.put_item("a", document, fence())
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]]}
    found = json.loads(await ran(str(VALIDATOR), f"{served.url}/stac/", json.dumps(geometry), "a", *CLASSES))
    assert [error for error in found["errors"] if not any(known in error for known in FALSE_ALARMS)] == []


READ = """
import json, sys, rasterio
with rasterio.open(f"/vsicurl/{sys.argv[1]}") as remote:
    overview = remote.read(1, out_shape=(remote.height // 8, remote.width // 8))
    window = remote.read(1, window=((100, 110), (200, 230)))
print(json.dumps([overview.shape, window.tolist()]))
"""


async def test_gdal_reads_a_cog_by_few_ranges(served: Served, tmp_path: Path) -> None:
    """A header, an overview and a window of a file of 8 MiB: a handful of ranges, never the whole."""
    wgs84 = CRS.from_epsg(4326)
    noisy = np.random.default_rng(1).normal(size=(1, 2048, 2048)).astype("float32")
    source = make_raster(tmp_path / "source.tif", noisy)
    file = tmp_path / "box-1" / "a.tif"
    write_cog(source, file, crs=wgs84, target_crs=wgs84, raster_type="continuous", tier="analysis")
    size = file.stat().st_size
    words = {
        "PATH": "/usr/bin:/bin",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    }
    out = await ran("-c", READ, f"{served.url}/assets/box-1/a.tif", environment=words)

    shape, window = json.loads(out)
    assert shape == [256, 256]
    with rasterio.open(file) as local:
        assert window == local.read(1, window=((100, 110), (200, 230))).tolist()
    gets = [words for method, _, words in served.asked if method == "GET"]
    assert all(gets), f"a request without a range: {served.asked}"
    assert len(gets) <= 6, gets
    sent = sum(int(end) - int(start) + 1 for start, end in (each.removeprefix("bytes=").split("-") for each in gets))
    assert sent < size / 3, (sent, size)


async def test_public_client_sorts_filters_and_chooses(served: Served) -> None:
    def look() -> None:
        stac = pystac_client.Client.open(f"{served.url}/stac/")
        for extension in ("ITEM_SEARCH", "SORT", "FIELDS", "FILTER", "FEATURES", "COLLECTIONS"):
            assert stac.conforms_to(extension), extension
        assert [item.id for item in stac.search(sortby="+properties.datetime", limit=1).items()] == [
            "one",
            "two",
            "three",
        ]
        assert [
            item.id
            for item in stac.search(filter="id IN ('one','three')", filter_lang="cql2-text", method="GET").items()
        ] == ["three", "one"]
        sliver = {"type": "LineString", "coordinates": [[14, 45.155], [16, 45.155]]}
        assert [item.id for item in stac.search(intersects=sliver, collections=["a"], limit=1).items()] == [
            "two",
            "one",
        ]
        (plain,) = stac.search(ids=["one"], fields=["properties.datetime", "-assets"]).items_as_dicts()
        assert set(plain["properties"]) == {"datetime"}
        assert stac.get_collection("a").get_item("one").id == "one"  # type: ignore[union-attr]  # there is one

    await asyncio.to_thread(look)
