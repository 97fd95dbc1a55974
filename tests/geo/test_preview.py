"""The small picture: in colour, transparent where nothing is, never black."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from dagmaster.geo.raster.cog import write_cog
from dagmaster.geo.raster.preview import write_preview
from geo.factories import make_raster, noise, terrain


def preview(tmp_path: Path, kind: str, data: Any, **options: Any) -> Any:
    """Red, green, blue and alpha of the preview of a raster of this kind."""
    write_preview(make_raster(tmp_path / "raster.tif", data, **options), tmp_path / "preview.png", kind)
    with rasterio.open(tmp_path / "preview.png") as picture:
        assert (picture.driver, picture.count) == ("PNG", 4)
        return picture.read()


@pytest.mark.parametrize("shape", [(300, 1700), (1700, 300), (20, 30)])
def test_no_side_is_longer_than_512(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = preview(tmp_path, "dem", terrain(shape))
    assert max(picture.shape[1:]) == min(512, max(shape))
    assert picture.shape[2] / picture.shape[1] == pytest.approx(shape[1] / shape[0], rel=0.02)


@pytest.mark.parametrize("kind", ["dem", "flood_depth", "continuous", "vegetation_index", "unknown", "population"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
def test_single_band_uses_its_ramp(tmp_path: Path, kind: str, dtype: str) -> None:
    picture = preview(tmp_path, kind, terrain(dtype=dtype))
    assert (picture[3] == 255).all()
    assert len(np.unique(picture[:3].reshape(3, -1), axis=1)[0]) > 30
    assert picture[:3].max(axis=0).min() > 10, "nothing is black"


def test_nodata_and_nan_are_transparent(tmp_path: Path) -> None:
    data = terrain()
    data[0, :40], data[0, 80:] = -9999, np.nan
    picture = preview(tmp_path, "dem", data, nodata=-9999)
    assert (picture[3, :40] == 0).all()
    assert (picture[3, 80:] == 0).all()
    assert (picture[3, 40:80] == 255).all()


def test_outliers_do_not_flatten_the_picture(tmp_path: Path) -> None:
    data = terrain()
    data[0, 0, 0] = 1e9
    assert len(np.unique(preview(tmp_path, "dem", data)[0])) > 30


def test_constant_raster_is_drawn(tmp_path: Path) -> None:
    picture = preview(tmp_path, "continuous", np.full((1, 40, 40), 7, "float32"))
    assert (picture[3] == 255).all()
    assert picture[:3].max() > 60


def test_palette_is_respected(tmp_path: Path) -> None:
    data = noise(1) % 2
    picture = preview(tmp_path, "categorical", data, colormap={0: (10, 200, 30, 255), 1: (200, 10, 90, 255)})
    assert (picture[:3, data[0] == 0].T == (10, 200, 30)).all()
    assert (picture[:3, data[0] == 1].T == (200, 10, 90)).all()


def test_classes_without_a_palette_are_told_apart(tmp_path: Path) -> None:
    data = noise(1) % 5
    picture = preview(tmp_path, "categorical", data)
    assert len(np.unique(picture[:3].reshape(3, -1), axis=1).T) == 5


def test_grey_picture_of_many_values_is_no_map_of_classes(tmp_path: Path) -> None:
    picture = preview(tmp_path, "categorical", (terrain() / 3).astype("uint8"))
    assert (picture[0] == picture[1]).all()
    assert len(np.unique(picture[0])) > 30


def test_well_spread_picture_is_shown_as_it_is(tmp_path: Path) -> None:
    data = noise(3)
    assert np.array_equal(preview(tmp_path, "rgb", data, photometric="rgb")[:3], data)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_dark_picture_is_stretched(tmp_path: Path, dtype: str) -> None:
    picture = preview(tmp_path, "rgb", (noise(3) // 10).astype(dtype))
    assert picture[:3].max() == 255
    assert picture[:3].std() > 40


def test_alpha_hides_and_is_not_drawn(tmp_path: Path) -> None:
    data = noise(4)
    data[3] = 255
    data[3, :60] = 0
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    picture = preview(tmp_path, "rgba", data, colors=colors, photometric="rgb", alpha="yes")
    assert (picture[3, :60] == 0).all()
    assert (picture[3, 60:] == 255).all()
    assert np.array_equal(picture[:3, 60:], data[:3, 60:])


def test_corners_of_a_warped_picture_are_transparent(tmp_path: Path) -> None:
    source = make_raster(
        tmp_path / "s.tif", noise(3), crs="EPSG:32633", bounds=(3e5, 6e6, 7e5, 6.3e6), photometric="rgb"
    )
    write_cog(
        source, tmp_path / "c.tif", crs=CRS.from_epsg(32633), target_crs=CRS.from_epsg(4326), raster_type="rgb", tier="visualization"
    )  # fmt: skip
    write_preview(tmp_path / "c.tif", tmp_path / "p.png", "rgb")
    with rasterio.open(tmp_path / "p.png") as picture:
        alpha = picture.read(4)
    assert 0.7 < (alpha > 0).mean() < 1
    assert alpha[-1, 0] == 0


def test_all_nodata_is_wholly_transparent(tmp_path: Path) -> None:
    assert (preview(tmp_path, "dem", np.full((1, 9, 9), -9999, "float32"), nodata=-9999)[3] == 0).all()
