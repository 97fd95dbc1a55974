"""The written COG: valid, with the source's pixels, in the place that was asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rio_cogeo.cogeo import cog_validate

from dagmaster.errors import CorruptedFile, ReprojectionFailed
from dagmaster.geo.raster.cog import Cog, bounds_4326, write_cog
from geo.factories import make_raster, noise, terrain

LONLAT = CRS.from_epsg(4326)
UTM33 = (400000.0, 5500000.0, 411000.0, 5512000.0)
MARS = (
    'PROJCS["Mars",GEOGCS["GCS_MARS",DATUM["D_MARS",SPHEROID["MARS",3395582.027,0]],PRIMEM["Reference_Meridian",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],UNIT["metre",1]]'
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source.tif"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cog.tif"


def write(
    source: Path, target: Path, *, kind: str = "dem", tier: str = "analysis", to: CRS = LONLAT, **more: Any
) -> Cog:
    """Write with the source's own CRS unless told otherwise; whatever was asked for, it has to be valid."""
    with rasterio.open(source) as raster:
        crs = more.pop("crs", raster.crs)
    made = write_cog(source, target, crs=crs, target_crs=to, raster_type=kind, tier=tier, **more)
    valid, errors, warnings = cog_validate(target, strict=True, quiet=True)
    assert valid, (errors, warnings)
    assert [file.name for file in target.parent.iterdir() if file not in (source, target)] == []
    return made


def read(path: Path) -> Any:
    with rasterio.open(path) as raster:
        return raster.read()


# --- in its place already ----------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["analysis", "archive"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"])
def test_lossless_tiers_keep_every_pixel(source: Path, target: Path, dtype: str, tier: str) -> None:
    data = np.tile((noise(2, "int16") % 100).astype(dtype), (1, 6, 5))
    made = write(make_raster(source, data, nodata=42), target, tier=tier)
    assert np.array_equal(read(target), data)
    assert (made.compression, made.tier) == ({"analysis": "DEFLATE", "archive": "ZSTD"}[tier], tier)
    with rasterio.open(target) as result, rasterio.open(source) as begin:
        assert (result.transform, result.crs, result.nodata) == (begin.transform, begin.crs, 42)
        assert result.block_shapes == [(512, 512)] * 2
        assert result.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == ("3" if dtype == "float32" else "2")
        assert made.overview_levels == result.overviews(1) == [2]


@pytest.mark.parametrize(
    ("width", "height", "block"),
    [(512, 513, 256), (1024, 1030, 256), (1025, 1030, 256), (512, 512, 512), (1026, 1030, 512), (513, 900, 512)],
)
def test_no_level_is_taken_for_strips(source: Path, target: Path, width: int, height: int, block: int) -> None:
    """rio-cogeo does so with a level that is exactly one block wide and higher."""
    write(make_raster(source, noise(1, shape=(height, width))), target)
    with rasterio.open(target) as result:
        assert result.block_shapes == [(block, block)]


def test_level_that_can_only_be_taken_for_strips_is_no_fault(source: Path, target: Path) -> None:
    make_raster(source, noise(1, shape=(2100, 1024)))
    write_cog(source, target, crs=LONLAT, target_crs=LONLAT, raster_type="unknown", tier="analysis")
    assert cog_validate(target, quiet=True)[1] == ["Overview of index 0 is not tiled"]
    with rasterio.open(target) as result:
        assert result.block_shapes == [(512, 512)]


def test_checksum_and_size_are_those_of_the_file(source: Path, target: Path) -> None:
    made = write(make_raster(source, terrain()), target)
    assert made.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert made.size_bytes == target.stat().st_size


def test_visualization_is_jpeg_for_pictures_and_analysis_for_the_rest(source: Path, target: Path) -> None:
    data = np.repeat(terrain(dtype="uint8") // 2, 3, axis=0)
    made = write(make_raster(source, data, photometric="rgb"), target, kind="rgb", tier="visualization")
    assert (made.compression, made.tier) == ("JPEG", "visualization")
    assert np.abs(read(target).astype(int) - data).mean() < 3
    made = write(make_raster(source, terrain()), target, tier="visualization")
    assert (made.compression, made.tier) == ("DEFLATE", "analysis")


def test_meaning_of_bands_is_kept(source: Path, target: Path) -> None:
    make_raster(source, noise(2, "int16"), nodata=-5, colors=(ColorInterp.gray, ColorInterp.undefined))
    with rasterio.open(source, "r+") as raster:
        raster.descriptions = ("depth", "speed")
        raster.scales, raster.offsets = (0.1, 1.0), (5.0, 0.0)
        raster.units = ("m", "m/s")
        raster.update_tags(1, note="kept")
    for to in (LONLAT, CRS.from_epsg(3857)):
        write(source, target, to=to)
        with rasterio.open(target) as result:
            assert result.descriptions == ("depth", "speed")
            assert (result.scales, result.offsets) == ((0.1, 1.0), (5.0, 0.0))
            assert result.units == ("m", "m/s")
            assert result.tags(1)["note"] == "kept"
            assert result.nodata == -5


def test_palette_is_kept_and_never_mixed(source: Path, target: Path) -> None:
    colors = {0: (0, 0, 0, 255), 3: (255, 0, 0, 255), 9: (0, 0, 255, 255)}
    data = np.array([0, 3, 9], "uint8")[noise(1, shape=(1100, 1100)) % 3]
    make_raster(source, data, colormap=colors)
    for to in (LONLAT, CRS.from_epsg(3857)):
        write(source, target, kind="categorical", to=to)
        with rasterio.open(target) as result:
            assert result.colorinterp[0] == ColorInterp.palette
            assert {key: result.colormap(1)[key] for key in colors} == colors
            for step in (1, 2, 4):
                assert set(np.unique(result.read(1, out_shape=(1100 // step, 1100 // step)))) <= {0, 3, 9}


def test_mask_is_kept(source: Path, target: Path) -> None:
    mask = np.zeros((120, 160), bool)
    mask[30:90, 40:100] = True
    make_raster(source, noise(3), mask=mask, photometric="rgb")
    for tier in ("analysis", "visualization"):
        write(source, target, kind="rgb", tier=tier)
        with rasterio.open(target) as result:
            assert result.count == 3
            assert np.array_equal(result.dataset_mask() > 0, mask)


def test_single_bits_are_widened(source: Path, target: Path) -> None:
    data = noise(1) % 2
    write(make_raster(source, data, nbits=1), target, kind="categorical")
    assert np.array_equal(read(target), data)


def test_missing_name_of_the_crs_moves_no_pixel(source: Path, target: Path) -> None:
    data = noise(3)
    write(make_raster(source, data, crs=None), target, kind="rgb", crs=LONLAT)
    assert np.array_equal(read(target), data)
    with rasterio.open(target) as result:
        assert result.crs == LONLAT
        assert result.dataset_mask().all()


def test_cog_is_taken_as_it_is(source: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "a" / "cog.tif", tmp_path / "b" / "cog.tif"
    first.parent.mkdir()
    again.parent.mkdir()
    write(make_raster(source, np.tile(terrain(), (1, 6, 6))), first)
    assert write(first, again).copied
    assert first.read_bytes() == again.read_bytes()
    assert not write(first, again, tier="archive").copied
    assert not write(first, again, to=CRS.from_epsg(3857)).copied


def test_strange_overviews_of_the_source_are_made_anew(source: Path, target: Path) -> None:
    data = np.tile(terrain(), (1, 8, 8))
    make_raster(source, data, tiled=True)
    with rasterio.open(source, "r+") as raster:
        raster.build_overviews([3, 5])
    assert write(source, target).overview_levels == [2, 4]


# --- another place -----------------------------------------------------------------------------------


def test_south_up_is_turned_over_and_keeps_every_pixel(source: Path, target: Path) -> None:
    data = noise(3)
    write(make_raster(source, data, transform=Affine(0.1, 0, 10, 0, 0.1, 40)), target, kind="rgb")
    assert np.array_equal(read(target), data[:, ::-1])
    with rasterio.open(target) as result:
        assert tuple(result.bounds) == pytest.approx((10, 40, 26, 52))


def test_rotated_raster_is_laid_north_up_with_transparent_corners(source: Path, target: Path) -> None:
    turned = Affine.translation(10, 50) @ Affine.rotation(30) @ Affine.scale(0.01, -0.01)
    write(make_raster(source, np.full((1, 120, 160), 5, "uint8"), transform=turned), target, kind="categorical")
    with rasterio.open(target) as result:
        assert result.transform.b == result.transform.d == 0
        shown = result.dataset_mask() > 0
        assert 0.4 < shown.mean() < 0.9
        assert (result.read(1)[shown] == 5).all()
        assert not shown[0, 0]


def test_warped_values_lie_where_they_lay(source: Path, target: Path) -> None:
    make_raster(source, terrain(), crs="EPSG:32633", bounds=UTM33, nodata=-9999)
    write(source, target)
    with rasterio.open(source) as begin, rasterio.open(target) as result:
        assert result.crs == LONLAT
        (longitude,), (latitude,) = transform(begin.crs, LONLAT, [408000], [5506000])
        here, there = next(begin.sample([(408000, 5506000)])), next(result.sample([(longitude, latitude)]))
        assert here == pytest.approx(there, abs=2)
        assert result.nodata == -9999


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_warp_invents_no_nodata_and_keeps_true_zeros(source: Path, target: Path, dtype: str) -> None:
    """Every value of the type is in use, so what the warp leaves empty must be told apart by a mask."""
    limits = np.iinfo(dtype)
    data = np.resize(np.array([0, limits.min, limits.max, 7], dtype), (1, 120, 160))
    write(make_raster(source, data, crs="EPSG:32633", bounds=UTM33), target, kind="categorical")
    with rasterio.open(target) as result:
        shown = result.dataset_mask() > 0
        assert result.count == 1
        assert result.nodata is None
        assert set(np.unique(result.read(1)[shown])) == set(np.unique(data))
        assert 0.9 < shown.mean() < 1


def test_mask_and_alpha_survive_a_warp(source: Path, target: Path) -> None:
    mask = np.zeros((120, 160), bool)
    mask[:, 80:] = True
    make_raster(source, noise(3), crs="EPSG:32633", bounds=UTM33, mask=mask, photometric="rgb")
    write(source, target, kind="rgb")
    with rasterio.open(target) as result:
        assert result.count == 3
        shown = result.dataset_mask() > 0
        assert shown.mean() == pytest.approx(0.5, abs=0.05)
        assert not shown[:, : result.width // 3].any()
    rgba = np.concatenate([noise(3), np.where(mask, 255, 0).astype("uint8")[np.newaxis]])
    make_raster(source, rgba, crs="EPSG:32633", bounds=UTM33, photometric="rgb", alpha="yes")
    write(source, target, kind="rgba")
    with rasterio.open(target) as result:
        assert result.colorinterp[3] == ColorInterp.alpha
        assert (result.dataset_mask() > 0).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("code", [4326, 3857])
def test_antimeridian_does_not_become_the_world(source: Path, target: Path, code: int) -> None:
    make_raster(source, terrain(dtype="uint16"), crs="EPSG:32660", bounds=(6e5, 5.6e6, 8.4e5, 5.8e6))
    write(source, target, kind="continuous", to=CRS.from_epsg(code))
    with rasterio.open(target) as result:
        west, south, east, north = bounds_4326(result) or (0, 0, 0, 0)
        assert west == pytest.approx(178.4, abs=0.3)
        assert east == pytest.approx(-177.9, abs=0.3)
        assert south < 51 < north
        assert result.width * result.height < 4 * 120 * 160
        assert (result.dataset_mask() > 0).mean() > 0.8
        with rasterio.open(source) as begin:
            xs, ys = transform(begin.crs, result.crs, [811000], [5700000])
            period = 360 if code == 4326 else 40075016.68557849
            value = next(begin.sample([(811000, 5700000)]))
            assert next(result.sample([(xs[0] + period, ys[0])])) == pytest.approx(value, abs=6)


def test_web_tile_west_of_the_antimeridian_sees_the_raster(source: Path, target: Path) -> None:
    """East of it a tile of the world map sees nothing: GDAL does not carry degrees past 180 round to the other side."""
    make_raster(source, terrain(dtype="uint16"), crs="EPSG:32660", bounds=(6e5, 5.6e6, 8.4e5, 5.8e6))
    write(source, target, kind="continuous")
    place = Affine(1000, 0, 20037508.342789244 - 150_000, 0, -1000, 6_750_000)
    with (
        rasterio.open(target) as result,
        WarpedVRT(result, crs="EPSG:3857", transform=place, width=150, height=150, add_alpha=True) as tile,
    ):
        assert (tile.read(2) > 0).mean() > 0.9


def test_another_planet_has_no_way_here(source: Path, target: Path) -> None:
    make_raster(source, noise(1), crs=MARS, bounds=(7e6, -8.7e5, 7.1e6, -8.6e5))
    with pytest.raises(ReprojectionFailed) as caught:
        write(source, target)
    assert "{" not in caught.value.message
    assert not target.exists()


def test_compound_crs_is_reprojected_by_its_horizontal_part(source: Path, target: Path) -> None:
    from geo.test_validate import COMPOUND

    make_raster(source, terrain(), crs=COMPOUND, bounds=UTM33, nodata=-9999)
    write(source, target)
    with rasterio.open(target) as result:
        assert result.read(1, masked=True).mean() == pytest.approx(terrain().mean(), rel=0.05)


# --- trouble, progress, memory -----------------------------------------------------------------------


def test_damage_met_while_converting_is_the_source_s(source: Path, target: Path) -> None:
    make_raster(source, noise(1, shape=(700, 700)), compress="deflate", tiled=True)
    with rasterio.open(source) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    content = bytearray(source.read_bytes())
    content[offset : offset + 400] = b"\xff" * 400
    source.write_bytes(content)
    with pytest.raises(CorruptedFile) as caught:
        write(source, target)
    assert str(source.parent) not in str(caught.value.as_dict())


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_progress_grows_to_one(source: Path, target: Path, crs: str) -> None:
    heard: list[float] = []
    make_raster(
        source, np.tile(terrain(), (1, 10, 10)), crs=crs, bounds=UTM33 if "326" in crs[-5:] else (10, 50, 11, 51)
    )
    write(source, target, on_progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_cancelling_while_a_raster_is_warped_leaves_nothing_beside(source: Path, target: Path) -> None:
    class Stop(Exception): ...

    def stop(share: float) -> None:
        raise Stop

    make_raster(source, terrain(), crs="EPSG:32633", bounds=UTM33)
    with pytest.raises(Stop):
        write(source, target, on_progress=stop)
    assert list(target.parent.iterdir()) == [source]


def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    """A raster of 363 MB, laid anew, in a process of its own (whose peak counts from its own start); the same numbers hold for ten times as much."""
    program = f"""
import re, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, rasterio
from pathlib import Path
from rasterio.crs import CRS
from rasterio.transform import Affine
from dagmaster.geo.raster.cog import write_cog
folder = Path({str(tmp_path)!r})
with rasterio.open(folder / "big.tif", "w", driver="GTiff", width=11000, height=11000, count=3, dtype="uint8", compress="zstd",
                   crs="EPSG:4326", transform=Affine(1e-4, 0, 10, 0, 1e-4, 50), nodata=0) as made:
    for top in range(0, 11000, 1000):
        made.write(np.full((3, 1000, 11000), top // 1000 + 1, "uint8"), window=((top, top + 1000), (0, 11000)))
write_cog(folder / "big.tif", folder / "cog.tif", crs=CRS.from_epsg(4326), target_crs=CRS.from_epsg(4326),
          raster_type="rgb", tier="analysis")
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert int(done.stdout) < 800
