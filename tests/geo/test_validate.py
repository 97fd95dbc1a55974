"""Every row of the validation matrix, one test each."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from dagmaster import errors
from dagmaster.geo.raster.crs import parse_crs, same
from dagmaster.geo.raster.header import declared_size
from dagmaster.geo.raster.validate import Validated, validate
from geo.factories import bomb, declaring, make_raster, noise, sparse, terrain

COMPOUND = (
    'COMPD_CS["UTM + height",PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84",DATUM["WGS_1984",'
    'SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],'
    'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
    'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH],AUTHORITY["EPSG","32633"]],'
    'VERT_CS["EGM2008 height",VERT_DATUM["EGM2008 geoid",2005],UNIT["metre",1],AXIS["Up",UP]]]'
)
UTM33 = (400000.0, 5500000.0, 416000.0, 5512000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raster.tif"


def warning_of(validated: Validated, words: str) -> str:
    found = [each for each in validated.warnings if words in each]
    assert len(found) == 1, validated.warnings
    return found[0]


# --- the file ----------------------------------------------------------------------------------------


def test_good_raster_is_accepted_with_its_facts(path: Path) -> None:
    found = validate(make_raster(path, terrain(), nodata=-9999))
    assert (found.crs, found.crs_source) == (CRS.from_epsg(4326), "file_metadata")
    assert found.facts.bounds == pytest.approx((10, 50, 11, 51))
    assert (found.detected.type, found.detected.confidence) == ("dem", "HIGH")
    assert found.warnings == []


def test_missing_file_is_not_found(path: Path) -> None:
    with pytest.raises(errors.FileNotFound):
        validate(path)


def test_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(errors.FileNotFound):
        validate(tmp_path)


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", errors.FileEmpty), (b"II*\0", errors.FileTooSmall), (b"words " * 50, errors.InvalidFormat)],
)
def test_what_is_no_raster_is_refused(path: Path, content: bytes, error: type[errors.HandlerError]) -> None:
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        validate(path)
    assert str(path.parent) not in str(caught.value.as_dict())


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    vrt = tmp_path / "secret.tif"
    vrt.write_text(
        '<VRTDataset rasterXSize="100" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        '<SourceFilename relativetoVRT="0">/etc/passwd</SourceFilename></VRTRasterBand></VRTDataset>'
    )
    with pytest.raises(errors.InvalidFormat):
        validate(vrt)
    assert validate(make_raster(tmp_path / "honest.cog")).facts.count == 1


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_file_is_damaged(path: Path, share: float) -> None:
    make_raster(path, noise(3), compress="deflate")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises((errors.CorruptedFile, errors.InvalidFormat)):
        validate(path)


def test_one_bad_block_at_the_end_is_found(path: Path) -> None:
    make_raster(path, noise(1, shape=(512, 512)), compress="deflate", tiled=True, blockxsize=256, blockysize=256)
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 400] = b"\xff" * 400
    path.write_bytes(content)
    with pytest.raises(errors.CorruptedFile):
        validate(path)


# --- declared size -----------------------------------------------------------------------------------


def test_declared_pixels_above_the_limit_are_refused_before_any_is_read(path: Path) -> None:
    make_raster(path, noise(3))
    with pytest.raises(errors.RasterTooLarge):
        validate(path, declared_bytes_max=3 * 120 * 160 - 1)
    assert validate(path, declared_bytes_max=3 * 120 * 160).facts.declared_bytes == 3 * 120 * 160


@pytest.mark.parametrize("side", [2**31 - 1, 2**31, 2**32 - 1])
def test_more_pixels_than_gdal_counts_are_refused_as_such(path: Path, side: int) -> None:
    with pytest.raises(errors.RasterTooLarge) as caught:
        validate(declaring(path, side))
    assert f"{side * side / 2**30:,.1f} GiB" in caught.value.message


@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": "yes"}, {"endianness": "BIG"}, {"endianness": "BIG", "bigtiff": "yes"}]
)
def test_declared_size_is_read_from_every_kind_of_header(path: Path, options: dict[str, Any]) -> None:
    assert declared_size(make_raster(path, **options)) == (160, 120)


@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0", b"II*\0\x08\0\0\0", b"II+\0\x08\0\0\0" + b"\xff" * 8, b"MM\0*" + b"\xff" * 40, b"words " * 9],
)
def test_header_that_is_none_declares_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert declared_size(path) is None


def test_huge_sparse_header_is_refused(path: Path) -> None:
    sparse(path, 1_000_000)
    with pytest.raises(errors.RasterTooLarge):
        validate(path)


def test_small_file_that_declares_much_is_refused(path: Path) -> None:
    """Every block of it is there, and all of them are the same few bytes of the file."""
    bomb(path, side=40_000)
    with pytest.raises(errors.RasterTooLarge) as caught:
        validate(path)
    assert "times less than it declares" in (caught.value.why or "")


def test_sparse_raster_may_declare_more_than_it_holds(path: Path) -> None:
    sparse(path, 40_000)
    with pytest.raises(errors.RasterEmpty):  # so it was read, and the gate let it through
        validate(path)


def test_reading_is_bounded_in_memory(path: Path) -> None:
    big = np.zeros((1, 8000, 16000), "uint8")
    big[:, ::7] = 9
    make_raster(path, big, compress="deflate", zlevel=1)
    del big
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = validate(path)
    assert found.facts.declared_bytes == 128_000_000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 400


# --- bands and samples -------------------------------------------------------------------------------


def test_too_many_bands_are_refused(path: Path) -> None:
    make_raster(path, noise(101, shape=(8, 8)))
    with pytest.raises(errors.RasterBandInvalid):
        validate(path)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex64", "complex128", "complex_int16"])
def test_64_bit_samples_are_refused(path: Path, dtype: str) -> None:
    if dtype == "complex_int16":
        options: dict[str, Any] = {"driver": "GTiff", "width": 40, "height": 40, "count": 1, "dtype": dtype}
        with rasterio.open(path, "w", crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 40), **options):
            pass
    else:
        make_raster(path, noise(1, dtype))
    with pytest.raises(errors.Raster64BitRejected) as caught:
        validate(path)
    assert dtype in caught.value.message


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"])
def test_other_samples_are_accepted(path: Path, dtype: str) -> None:
    data = (noise(1, "int16") % 100).astype(dtype)
    assert validate(make_raster(path, data)).facts.dtype == dtype


# --- coordinate system -------------------------------------------------------------------------------


def test_no_crs_at_all_is_refused(path: Path) -> None:
    with pytest.raises(errors.CrsMissing):
        validate(make_raster(path, crs=None))


def test_crs_of_the_user_is_taken_where_the_file_has_none(path: Path) -> None:
    found = validate(make_raster(path, crs=None), input_crs="EPSG:4326")
    assert (found.crs, found.crs_source) == (CRS.from_epsg(4326), "user_override_required")
    assert warning_of(found, "names no coordinate system")


@pytest.mark.parametrize("said", ["EPSG:4326", "epsg:4326", CRS.from_epsg(4326).to_wkt()])
def test_equal_crs_is_confirmed_however_it_is_written(path: Path, said: str) -> None:
    assert validate(make_raster(path), input_crs=said).crs_source == "user_confirmed"


def test_height_of_a_compound_crs_does_not_make_it_another(path: Path) -> None:
    found = validate(make_raster(path, crs=COMPOUND, bounds=UTM33), input_crs="EPSG:32633")
    assert found.crs_source == "user_confirmed"
    assert same(CRS.from_wkt(COMPOUND), CRS.from_epsg(32633))


def test_other_crs_is_a_mismatch(path: Path) -> None:
    with pytest.raises(errors.CrsMismatch) as caught:
        validate(make_raster(path), input_crs="EPSG:3857")
    assert "EPSG:4326" in caught.value.message
    assert "EPSG:3857" in caught.value.message


def test_local_grid_is_no_coordinate_system(path: Path) -> None:
    with pytest.raises(errors.CrsMissing):
        validate(make_raster(path, crs='LOCAL_CS["a drawing",UNIT["metre",1]]'))


@pytest.mark.parametrize(
    "text",
    ["EPSG:999999", "nonsense", "/etc/passwd", "https://example.org/crs", "+proj=longlat +nadgrids=/etc/passwd", "",
     'LOCAL_CS["a drawing",UNIT["metre",1]]', "GEOGCS[", "EPSG:4326" * 9999],
)  # fmt: skip
def test_what_proj_does_not_know_is_invalid(text: str) -> None:
    with pytest.raises(errors.CrsInvalid):
        parse_crs(text)


def test_bounds_off_the_globe_are_a_warning(path: Path) -> None:
    assert warning_of(validate(make_raster(path, bounds=(179, 0, 181, 1))), "±180")
    assert warning_of(validate(make_raster(path, crs="EPSG:32633", bounds=(5e6, 0, 6e6, 1e6))), "outside a UTM zone")


# --- geotransform ------------------------------------------------------------------------------------


def test_no_geotransform_is_refused(path: Path) -> None:
    with pytest.raises(errors.GeotransformMissing) as caught:
        validate(make_raster(path, placed=False))
    assert caught.value.why is None


def test_control_points_in_place_of_a_geotransform_are_named(path: Path) -> None:
    points = [GroundControlPoint(0, 0, 10, 51), GroundControlPoint(0, 160, 11, 51), GroundControlPoint(120, 0, 10, 50)]
    with pytest.raises(errors.GeotransformMissing) as caught:
        validate(make_raster(path, crs="EPSG:4326", placed=False, gcps=points), input_crs="EPSG:4326")
    assert "3 ground control points" in (caught.value.why or "")


# --- values ------------------------------------------------------------------------------------------


def almost_empty(valid: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    data = np.full((1, 100, 100), -9999, "float32")
    data[0].flat[-valid:] = np.linspace(1.5, 90.2, valid)
    return data


def test_99_percent_nodata_is_empty(path: Path) -> None:
    with pytest.raises(errors.RasterEmpty):
        validate(make_raster(path, almost_empty(100), nodata=-9999))


def test_90_percent_nodata_is_a_warning(path: Path) -> None:
    """The values are in the last corner, where no sample of the first blocks would see them."""
    assert warning_of(validate(make_raster(path, almost_empty(101), nodata=-9999)), "% nodata")
    assert warning_of(validate(make_raster(path, almost_empty(1000), nodata=-9999)), "% nodata")
    assert validate(make_raster(path, almost_empty(1100), nodata=-9999)).warnings == []


def test_all_nan_is_empty(path: Path) -> None:
    with pytest.raises(errors.RasterEmpty):
        validate(make_raster(path, np.full((1, 50, 50), np.nan, "float32")))


def test_all_masked_is_empty(path: Path) -> None:
    with pytest.raises(errors.RasterEmpty):
        validate(make_raster(path, noise(3), mask=np.zeros((120, 160), bool)))


def test_all_transparent_is_empty(path: Path) -> None:
    data = noise(4)
    data[3] = 0
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    with pytest.raises(errors.RasterEmpty):
        validate(make_raster(path, data, colors=colors, photometric="rgb", alpha="yes"))


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e30, np.inf, -np.inf])
def test_extreme_values_are_refused(path: Path, value: float) -> None:
    data = terrain()
    data[0, 3, 3] = value
    with pytest.raises(errors.RasterExtremeValues):
        validate(make_raster(path, data))


def test_declared_nodata_is_no_extreme_value(path: Path) -> None:
    data = terrain()
    data[0, 3, 3] = np.finfo("float32").max
    assert validate(make_raster(path, data, nodata=float(np.finfo("float32").max))).warnings == []


def test_nodata_inside_the_data_is_a_warning(path: Path) -> None:
    assert warning_of(validate(make_raster(path, noise(), nodata=100)), "lies inside the data")


def test_undeclared_nodata_is_a_warning(path: Path) -> None:
    data = terrain(dtype="int16")
    data[0, :30] = -9999
    assert "25 %" in warning_of(validate(make_raster(path, data)), "declare it")


def test_whole_numbers_in_floats_are_a_warning(path: Path) -> None:
    assert "uint8" in warning_of(validate(make_raster(path, noise(1, "float32"))), "whole numbers")


# --- type --------------------------------------------------------------------------------------------

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
FLAT = np.concatenate([noise(3), np.full((1, 120, 160), 200, "uint8")])
BIMODAL = np.where(noise(1) > 100, 1000, 1).astype("float32") + 0.25


@pytest.mark.parametrize(
    ("data", "options", "type_", "confidence"),
    [
        (noise(3), {"photometric": "rgb"}, "rgb", "VERY_HIGH"),
        (noise(3, "uint16"), {}, "rgb", "HIGH"),
        (FLAT, {"photometric": "rgb", "alpha": "yes"}, "rgba", "VERY_HIGH"),
        (FLAT, {"photometric": "minisblack"}, "rgba", "HIGH"),
        (noise(4, "uint16") * 40, {}, "nir", "MEDIUM"),
        (terrain() / 1000, {}, "vegetation_index", "HIGH"),
        (terrain(), {}, "dem", "HIGH"),
        (terrain(dtype="int16"), {}, "dem", "HIGH"),
        (BIMODAL, {}, "continuous", "MEDIUM"),
        (np.full((1, 9, 9), 4.5, "float32"), {}, "continuous", "LOW"),
        (noise(1) % 7, {}, "categorical", "HIGH"),
        (noise(1) % 3, {"colormap": {0: (0, 0, 0, 255), 1: (255, 0, 0, 255), 2: (0, 0, 255, 255)}}, "categorical", "VERY_HIGH"),
        (noise(1, "uint16") * 40, {}, "unknown", "LOW"),
        (noise(2), {}, "unknown", "LOW"),
        (noise(5), {}, "multispectral", "MEDIUM"),
        (noise(12, "uint16"), {}, "multispectral", "MEDIUM"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_type_is_detected(path: Path, data: Any, options: dict[str, Any], type_: str, confidence: str) -> None:
    found = validate(make_raster(path, data, **options)).detected
    assert (found.type, found.confidence) == (type_, confidence)


@pytest.mark.parametrize(
    ("data", "hint", "accepted"),
    [
        (terrain(), "auto", True),
        (terrain(), "dem", True),
        (terrain(), "flood_depth", True),
        (terrain(), "temporal", True),
        (terrain(), "categorical", False),
        (terrain(), "rgb", False),
        (terrain() / 1000, "flood_probability", True),
        (noise(1) % 7, "temporal", True),
        (noise(1) % 7, "flood_depth", False),
        (noise(3), "dem", False),
        (noise(4, "uint16") * 40, "multispectral", True),
        (terrain(), "no-such-type", False),
    ],
)
def test_hint_refines_or_is_refused(path: Path, data: Any, hint: str, accepted: bool) -> None:
    make_raster(path, data)
    if accepted:
        assert validate(path, raster_type=hint).detected.type == (hint if hint != "auto" else "dem")
    else:
        with pytest.raises(errors.RasterTypeMismatch):
            validate(path, raster_type=hint)


# --- profile -----------------------------------------------------------------------------------------


def test_visualization_is_for_pictures_of_eight_bits(path: Path) -> None:
    assert validate(make_raster(path, noise(3))).applicable_tiers == ["visualization", "analysis", "archive"]
    assert validate(make_raster(path, noise(3, "uint16"))).applicable_tiers == ["analysis", "archive"]
    assert validate(make_raster(path, terrain())).applicable_tiers == ["analysis", "archive"]


def test_lossy_profiles_are_not_for_sixteen_bits(path: Path) -> None:
    assert validate(make_raster(path, noise(3))).compression_profile == "jpeg"
    assert validate(make_raster(path, noise(3, "uint16"))).compression_profile == "deflate"


def test_estimate_counts_declared_pixels_and_not_the_packed_file(path: Path) -> None:
    data = np.full((3, 1024, 1024), 9, "uint8")
    plain = validate(make_raster(path, data)).estimated_compressed_mb
    packed = validate(make_raster(path, data, compress="deflate")).estimated_compressed_mb
    assert plain == packed == pytest.approx(0.3)


def test_progress_ends_at_one(path: Path) -> None:
    heard: list[float] = []
    validate(make_raster(path), on_progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
