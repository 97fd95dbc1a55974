"""Tiles of rasters that are hard to draw, with the real drawing process."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from affine import Affine
from fastapi import FastAPI
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rio_tiler.io import Reader

from catalog.cogs import cog
from catalog.items import collection, fence
from dagmaster.catalog.documents import item_document
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.geo.raster.cog import write_cog
from dagmaster.serving import tiler as tilers
from dagmaster.serving.app import with_serving
from dagmaster.serving.reader import LONLAT, GeoTiffReader
from dagmaster.serving.tiler import Tiler
from dagmaster.serving.tiles import touches
from dagmaster.storages import open_storage
from geo.factories import make_raster, noise

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Box = tuple[float, float, float, float]


class Drawn:
    """A catalog whose rasters are drawn."""

    def __init__(self, catalog: EmbeddedCatalog, folder: Path, tiler: Tiler, http: httpx.AsyncClient) -> None:
        self.catalog = catalog
        self.folder = folder
        self.tiler = tiler
        self.http = http

    async def publish(self, name: str, data: Any, bounds: Box, crs: str = "EPSG:4326", bbox: Box | None = None) -> Path:
        """An item with a COG of the data; returns the file."""
        system = CRS.from_string(crs)
        source = make_raster(self.folder / "source.tif", data, crs=crs, bounds=bounds)
        file = self.folder / "box-1" / f"{name}.tif"
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        write_cog(source, file, crs=system, target_crs=system, raster_type="continuous", tier="analysis")
        facts = cog(
            bounds_4326=list(bbox or bounds),
            shape=list(data.shape[1:]),
            cog_container="box-1",
            cog_blob=file.name,
            rescale=[[0, 255]],
            colormap=None,
        )
        await self.catalog.put_collection(collection("c"), fence())
        document = item_document(
            name, "c", facts, href_for=lambda box, path: f"/assets/{box}/{path}", now=NOW, moment=NOW
        )
        await self.catalog.put_item("c", document, fence())
        return file

    async def picture(self, path: str) -> Any:
        """Value and alpha of a tile."""
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        with MemoryFile(BytesIO(answer.content)) as file, file.open() as opened:
            return opened.read().astype(int)


@pytest.fixture
async def drawn(catalog: EmbeddedCatalog, tmp_path: Path) -> AsyncIterator[Drawn]:
    tiler = Tiler(tmp_path / "tiler")
    app = with_serving(FastAPI(), catalog, open_storage(f"file:{tmp_path}"), tiler)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://maps.example") as http:
        yield Drawn(catalog, tmp_path, tiler, http)
    await tiler.stop()


def slope(low: int, high: int, side: int = 512) -> Any:
    """Values that rise from west to east."""
    values = np.linspace(low, high, side).round().astype("uint8")
    return np.tile(values, (1, side, 1))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("west", [170.0, -190.0])
async def test_raster_over_the_antimeridian_is_drawn_on_both_sides(drawn: Drawn, crs: str, west: float) -> None:
    """170° to 190° east, written either way: values rise from 50 to 250, and 180° is 150."""
    metres = 111319.49079327358
    bounds = (west, -10.0, west + 20, 10.0)
    if crs == "EPSG:3857":
        bounds = (west * metres, -10 * metres, (west + 20) * metres, 10 * metres)
    await drawn.publish("fiji", slope(50, 250), bounds, crs, bbox=(170.0, -10.0, -170.0, 10.0))

    left, right = await drawn.picture("/tiles/c/fiji/4/15/7.png"), await drawn.picture("/tiles/c/fiji/4/0/7.png")
    seen_left, seen_right = left[0][left[-1] > 0], right[0][right[-1] > 0]
    assert (seen_left.min(), seen_left.max()) == (pytest.approx(50, abs=3), pytest.approx(150, abs=3))
    assert (seen_right.min(), seen_right.max()) == (pytest.approx(150, abs=3), pytest.approx(250, abs=3))
    assert left[-1][:, -1].any()
    assert right[-1][:, 0].any()
    assert not right[-1][:, 200:].any(), "nothing lies east of -170"
    world = await drawn.picture("/tiles/c/fiji/0/0/0.png")
    assert world[-1][:, 0].any()
    assert world[-1][:, -1].any()
    assert not world[-1][:, 20:230].any()

    said = (await drawn.http.get("/tiles/c/fiji/tilejson.json")).json()
    assert said["bounds"] == [-180, -10, 180, 10]
    assert abs(said["center"][0]) == pytest.approx(180)
    assert (await drawn.http.get("/tiles/c/fiji/4/8/7.png")).status_code == 404


async def test_raster_from_0_to_360_covers_the_whole_map(drawn: Drawn) -> None:
    await drawn.publish("ocean", slope(1, 250, 720)[:, :360], (0, -90, 360, 90), bbox=(-180, -90, 180, 90))
    world = await drawn.picture("/tiles/c/ocean/0/0/0.png")
    assert world[-1].all()
    assert world[0][128, 130] < 10
    assert world[0][128, 126] > 240
    assert world[0][128, 255] == pytest.approx(world[0][128, 0], abs=3)


async def test_tile_outside_of_the_item_is_answered_at_once(drawn: Drawn) -> None:
    await drawn.publish("small", slope(1, 250), (10, 50, 11, 51))
    answer = await drawn.http.get("/tiles/c/small/5/0/0.png")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert drawn.tiler.pid is None, "nothing was started for it"


async def test_damaged_file_is_not_a_service_that_is_down(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await drawn.publish("torn", slope(1, 250), (10, 50, 11, 51))
    whole = await drawn.publish("whole", slope(1, 250), (10, 50, 11, 51))
    place = "8/135/86.png"
    before = await drawn.picture(f"/tiles/c/whole/{place}")
    pid = drawn.tiler.pid
    file.write_bytes(b"II*\x00" + bytes(4000))
    answer = await drawn.http.get(f"/tiles/c/torn/{place}")
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (500, "RASTER_UNREADABLE", False)
    assert str(drawn.folder) not in answer.text
    assert drawn.tiler.pid == pid

    # A file that another took the place of is read anew, although the process had it open.
    other = await drawn.publish("other", slope(250, 250), (10, 50, 11, 51))
    shutil.copy(other, drawn.folder / "new.tif")
    (drawn.folder / "new.tif").rename(whole)
    after = await drawn.picture(f"/tiles/c/whole/{place}")
    assert before[0].min() < 250
    assert set(after[0][after[-1] > 0]) == {250}

    # Late is neither.
    monkeypatch.setattr(tilers, "ANSWER_SECONDS_MAX", 1e-6)
    await drawn.tiler.stop()
    answer = await drawn.http.get(f"/tiles/c/other/{place}")
    assert (answer.status_code, answer.json()["code"]) == (504, "TILER_LATE")


@pytest.mark.parametrize(
    ("box", "tile", "wanted"),
    [
        ((10, 50, 11, 51), (0, 0, 0), True),
        ((10, 50, 11, 51), (1, 1, 0), True),
        ((10, 50, 11, 51), (1, 0, 0), False),
        ((10, 50, 11, 51), (1, 1, 1), False),
        ((-180, -90, 180, 90), (3, 7, 7), True),
        ((170, -10, -170, 10), (2, 0, 1), True),
        ((170, -10, -170, 10), (2, 3, 2), True),
        ((170, -10, -170, 10), (2, 1, 1), False),
        ((0, 87, 1, 89), (1, 1, 0), True),  # its edge is the map's, as near as a pixel
        ((0, 0, 0, 0), (10, 512, 511), True),
        ((0, 0, 0, 0), (10, 510, 511), False),
    ],
)
def test_tiles_that_touch_a_box(box: Box, tile: tuple[int, int, int], wanted: bool) -> None:
    assert touches(box, *tile) is wanted


# --- against GDAL and against plain arithmetic ---------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The dataset has no Overviews")
async def test_plain_raster_is_drawn_as_its_nearest_pixels(tmp_path: Path) -> None:
    """Every pixel of many tiles, against the pixel of the array below its middle; nothing else is drawn."""
    values = np.random.default_rng(5).integers(1, 60000, (2, 700, 900)).astype("uint16")
    west, south, east, north = 9.3, 49.2, 10.7, 50.1
    path = make_raster(tmp_path / "plain.tif", values, bounds=(west, south, east, north), nodata=0)
    with GeoTiffReader(str(path)) as reader:
        tms = reader.tms
        for tile in [*tms.tiles(west - 0.1, south - 0.1, east + 0.1, north + 0.1, zooms=[10, 11])][::3]:
            if not reader.tile_exists(*tile):
                continue
            found = reader.tile(*tile, indexes=(2, 1)).array
            box = tms.bounds(tile)
            fractions = (np.arange(256) + 0.5) / 256
            mercator = [np.arcsinh(np.tan(np.radians(latitude))) for latitude in (box.top, box.bottom)]
            latitudes = np.degrees(np.arctan(np.sinh(mercator[0] + (mercator[1] - mercator[0]) * fractions)))
            columns = np.floor((box.left + (box.right - box.left) * fractions - west) / (east - west) * 900).astype(int)
            rows = np.floor((north - latitudes) / (north - south) * 700).astype(int)
            inside = ((rows >= 0) & (rows < 700))[:, None] & ((columns >= 0) & (columns < 900))[None]
            expected = values[:, rows.clip(0, 699)[:, None], columns.clip(0, 899)[None]][::-1]
            assert (np.ma.getmaskarray(found) == ~inside).all()
            assert (found.data == expected)[:, inside].all()


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 1, 0), (4, 8, 5), (6, 33, 21), (8, 140, 86)])
@pytest.mark.parametrize("kind", ["nodata", "mask"])
async def test_drawing_from_overviews_agrees_with_gdal(tmp_path: Path, place: tuple[int, int, int], kind: str) -> None:
    """A smooth raster with a hole, from every overview: as GDAL warps it, but for where a pixel's middle falls."""
    rows, columns = np.mgrid[0:2000, 0:2000]
    smooth = (rows + columns).astype("float32")[np.newaxis]
    hole = (slice(800, 1200), slice(800, 1200))
    more: dict[str, Any] = {"nodata": -1} if kind == "nodata" else {"mask": np.ones((2000, 2000), dtype=bool)}
    smooth[0][hole] = -1
    if kind == "mask":
        more["mask"][hole] = False
    source = make_raster(tmp_path / "source.tif", smooth, bounds=(0, 40, 20, 60), **more)
    write_cog(source, tmp_path / "cog.tif", crs=LONLAT, target_crs=LONLAT, raster_type="continuous", tier="analysis")
    z, x, y = place
    with GeoTiffReader(str(tmp_path / "cog.tif")) as ours, Reader(str(tmp_path / "cog.tif")) as theirs:
        mine, other = ours.tile(x, y, z, indexes=(1,)), theirs.tile(x, y, z, indexes=(1,))
    one, two = np.ma.getmaskarray(mine.array), np.ma.getmaskarray(other.array)
    assert (one != two).mean() < 0.02
    both = ~one & ~two
    assert both.any()
    width = 360 / 2**z / 256 / 0.01  # of a tile's pixel, in those of the raster
    assert np.abs(mine.array.data - other.array.data)[both].max() <= 4 * max(width, 1) + 2
    assert mine.bounds == pytest.approx(other.bounds)
    assert mine.crs == other.crs


@pytest.mark.filterwarnings("ignore:The dataset has no Overviews")
@pytest.mark.parametrize("kind", ["alpha", "utm", "rotated", "huge"])
async def test_other_rasters_are_left_to_gdal(tmp_path: Path, kind: str) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "alpha": {"data": noise(2), "colors": (ColorInterp.gray, ColorInterp.alpha)},
        "utm": {"crs": "EPSG:32632", "bounds": (500000, 5600000, 516000, 5612000)},
        "rotated": {"transform": Affine(0.005, 0.001, 10, 0.001, -0.005, 51)},
        "huge": {"data": np.ones((1, 2000, 2000), dtype="uint8")},
    }
    path = make_raster(tmp_path / "odd.tif", **kinds[kind])
    with GeoTiffReader(str(path)) as ours, Reader(str(path)) as theirs:
        west, south, east, north = theirs.get_geographic_bounds(LONLAT)
        tile = theirs.tms.tile((west + east) / 2, (south + north) / 2, 5 if kind == "huge" else 8)
        mine, other = ours.tile(*tile, indexes=(1,)), theirs.tile(*tile, indexes=(1,))
    assert np.array_equal(mine.array.data, other.array.data)
    assert np.array_equal(mine.mask, other.mask)
