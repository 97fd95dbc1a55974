"""What becomes of every raster of the shared collection: a valid COG, or the code that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from dagmaster.errors import HandlerError
from dagmaster.geo.raster.cog import bounds_4326, write_cog
from dagmaster.geo.raster.inspect import open_raster
from dagmaster.geo.raster.preview import write_preview
from dagmaster.geo.raster.validate import validate

DATA = Path(__file__).parents[3] / "shared" / "data"
FLOOD = "derived/1in{}-FLUVIAL-DEFENDED-2020_n52e00{}.tif"

REFUSED = {
    "raster/N10W110.hgt.zip": ("INVALID_FORMAT", None),
    "raster/PLANET_SCOPE_3D.nc": ("INVALID_FORMAT", None),
    "raster/RGB.byte.gcp.vrt": ("INVALID_FORMAT", None),
    "raster/ak-compdcs.zip": ("INVALID_FORMAT", None),
    "raster/cogeo.tif.aux.xml": ("INVALID_FORMAT", None),
    "raster/sentinel2_B01_60m.jp2": ("INVALID_FORMAT", None),
    "raster/tmmx_20190121.nc": ("INVALID_FORMAT", None),
    "raster/all-nodata.tif": ("RASTER_EMPTY", "100.0 %"),
    "raster/inverted_lat.tif": ("RASTER_EMPTY", "100.0 %"),
    **{FLOOD.format(years, 6): ("RASTER_EMPTY", "99.7 %") for years in (10, 100, 1000)},
    "raster/cog_gcps.tif": ("CRS_MISSING", None),
    "raster/gadas-world.tif": ("CRS_MISSING", None),
    "raster/rotated.tif": ("CRS_MISSING", None),
    "raster/test_rpcs.tif": ("GEOTRANSFORM_MISSING", "RPCs"),
    "raster/corrupt.tif": ("CORRUPTED_FILE", "do not read"),
    "raster/cog_hirise_mars.tif": ("REPROJECTION_FAILED", "coordinate operations"),
}
"""File → code, and words of the reason."""

ACCEPTED = {
    "raster/RGB.byte.tif": ("rgb", (-78.96, 23.56, -76.58, 25.55)),
    "raster/RGBA.uint16.tif": ("rgba", (-108.38, 36.82, -108.37, 36.82)),
    "raster/alpha.tif": ("rgba", (174.95, -39.54, 174.99, -39.5)),
    "raster/aster_dem_exploradores.tif": ("dem", (-73.34, -46.64, -73.13, -46.47)),
    "raster/cog_cmap.tif": ("categorical", (-79.44, 39.81, -79.37, 39.88)),
    "raster/cog_dateline.tif": ("unknown", (178.0, 50.58, -178.51, 52.77)),
    "raster/cog_int16.tif": ("dem", (-61.29, 72.23, -52.3, 74.66)),
    "raster/cog_rgb_mask.tif": ("rgb", (-104.78, 38.95, -104.77, 38.95)),
    "raster/cog_tags.tif": ("dem", (126.72, 36.94, 127.99, 37.94)),
    "raster/cog_with_nan.tif": ("dem", (79.67, 21.59, 80.92, 22.59)),
    "raster/cog_world.tif": ("categorical", (-180, -90, 180, 90)),
    "raster/cogeo.tif": ("rgb", (128.66, 37.67, 128.66, 37.67)),
    "raster/goes.tif": ("rgb", (-156.29, -63.1, 3.7, 63.13)),
    "raster/image_colormap.tif": ("categorical", (-119.06, 13.1, -84.91, 34.0)),
    "raster/image_known_incompatible_ghost_headers.tif": ("categorical", (-83.62, 36.71, -83.56, 36.76)),
    "raster/image_missing_nodata.tif": ("dem", (-75.24, 44.16, -72.96, 45.78)),
    "raster/image_webp.tif": ("rgb", (-61.57, 16.23, -61.56, 16.23)),
    "raster/kampen_1in100_inundation_map.tif": ("categorical", (5.77, 52.51, 6.03, 52.61)),
    "raster/landsat8_B2_u16.tif": ("unknown", (1.31, 45.4, 1.89, 45.68)),
    "raster/mosaic_cog1.tif": ("rgb", (-75.99, 44.94, -72.91, 47.09)),
    "raster/nlcd_zion.tif": ("categorical", (-113.24, 37.13, -112.85, 37.52)),
    "raster/nz_habitat_anticross_4326_1deg.tif": ("dem", (-180, -56.54, 180, -25.54)),
    "raster/planetscope_analyticMS_u16.tif": ("nir", (-96.04, 29.51, -95.78, 29.62)),
    "raster/sentinel2_4band_f32.tif": ("unknown", (-1.23, 50.73, -1.19, 50.75)),
    "raster/shade.tif": ("categorical", (-106.52, 39.57, -106.44, 39.64)),
    "raster/titiler_dem.tif": ("dem", (7.09, 45.92, 7.1, 45.93)),
    "raster/umbra_mount_yasur.tiff": ("categorical", (169.44, -19.53, 169.46, -19.52)),
    "raster/vanderford_f32_polar.cog": ("dem", (107.96, -66.84, 111.84, -65.06)),
    "raster/world.byte.tif": ("categorical", (-180, -75, 180, 75)),
    "derived/bmng_5400x2700_striped.tif": ("rgb", (-180, -90, 180, 90)),
    **{FLOOD.format(years, 5): ("dem", (5, 52, 6, 53)) for years in (10, 100, 1000)},
}
"""File → type, and west, south, east, north of the COG in degrees."""

LONLAT = CRS.from_epsg(4326)


def of(name: str) -> Path:
    """The file, or a visible skip where the collection is not at hand."""
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not here")
    return DATA / name


def test_table_names_every_file() -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not here")
    found = {str(each.relative_to(DATA)) for each in [*DATA.glob("raster/*"), *DATA.glob("derived/*.tif")]}
    assert found == {*REFUSED, *ACCEPTED}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    source = of(name)
    code, words = REFUSED[name]
    with pytest.raises(HandlerError) as caught:
        found = validate(source)
        write_cog(
            source, tmp_path / "c.tif", crs=found.crs, target_crs=LONLAT, raster_type=found.detected.type, tier="analysis"
        )  # fmt: skip
    error = caught.value.as_dict()
    assert error["code"] == code
    assert str(DATA) not in str(error), "no folder of this machine in a message"
    assert words is None or words in f"{error['message']} {error['why']}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_becomes_a_valid_cog(tmp_path: Path, name: str) -> None:
    source = of(name)
    type_, bounds = ACCEPTED[name]
    found = validate(source)
    assert found.detected.type == type_
    target = tmp_path / "cog.tif"
    made = write_cog(source, target, crs=found.crs, target_crs=LONLAT, raster_type=type_, tier="analysis")
    valid, errors, warnings = cog_validate(target, strict=True, quiet=True)
    assert valid, (errors, warnings)
    assert made.compression == "DEFLATE"
    with open_raster(target) as result:
        assert bounds_4326(result) == pytest.approx(bounds, abs=0.011)
        assert (result.count, result.dtypes) == (found.facts.count, found.facts.dtypes)
        assert result.nodata == pytest.approx(found.facts.nodata, nan_ok=True)
    write_preview(target, tmp_path / "preview.png", type_)
