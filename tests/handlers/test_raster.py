"""The raster handlers as the engine calls them: plain params in, strict JSON out, effects asked for."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from rio_cogeo.cogeo import cog_validate

from dagmaster import errors
from dagmaster.handlers import load
from dagmaster.handlers.base import Context
from geo.factories import make_raster, noise, terrain
from handlers.conftest import Desk


def call(name: str, ctx: Context, **params: Any) -> dict[str, Any]:
    """Run a handler by its name; its output as the next node reads it."""
    handler = load(name)
    output = handler(handler.params(**params), ctx)
    assert isinstance(output, handler.output)
    text = json.dumps(output.model_dump(mode="json"), allow_nan=False)
    result: dict[str, Any] = json.loads(text)
    return result


def ingest(desk: Desk, source: Path, **more: Any) -> dict[str, Any]:
    """Validate and convert one raster."""
    checked = call("raster.validate", desk, local_path=str(source), raster_type=more.pop("raster_type", None))
    return call("raster.create_cog", desk, local_path=str(source), validation=checked, source_name=source.name, **more)


def published(desk: Desk) -> dict[str, Path]:
    """Apply the effects as the outbox would."""
    for effect in desk.effects:
        assert effect.kind == "artifact"
        desk.storage.publish(effect.body["staged"], effect.body["container"], effect.body["path"])
    return {each.body["path"]: desk.stored / each.body["container"] / each.body["path"] for each in desk.effects}


# --- raster.blob_to_mount ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["local", "blob"])
def test_source_is_copied_into_the_job_s_folder(desk: Desk, tmp_path: Path, form: str) -> None:
    source = make_raster(tmp_path / "Höhe 1.tif")
    desk.put("bronze", "in/Höhe 1.tif", source)
    given: dict[str, Any] = {"local_path": str(source), "blob_name": None, "container_name": None}
    if form == "blob":
        given = {"local_path": None, "blob_name": "in/Höhe 1.tif", "container_name": "bronze"}
    for _ in range(2):  # a second attempt finds what the first one left
        output = call("raster.blob_to_mount", desk, **given)
        staged = Path(output["local_path"])
        assert staged.is_relative_to(desk.job_scratch)
        assert staged.read_bytes() == source.read_bytes()
        assert output["name"] == "Höhe 1.tif"
        assert output["size_bytes"] == source.stat().st_size
        assert output["size_mb"] == pytest.approx(source.stat().st_size / 2**20, abs=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"blob_name": "a.tif"},
        {"container_name": "bronze"},
        {"local_path": "a.tif", "blob_name": "a.tif", "container_name": "bronze"},
        {"local_path": "a.tif", "container_name": "bronze"},
    ],
)
def test_exactly_one_form_is_given(desk: Desk, given: dict[str, str]) -> None:
    with pytest.raises(errors.ParamsInvalid):
        call("raster.blob_to_mount", desk, **given)


def test_missing_file_folder_and_pipe_are_not_found(desk: Desk, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    for path in (tmp_path / "none.tif", tmp_path, tmp_path / "pipe.tif", Path("/dev/zero")):
        with pytest.raises(errors.FileNotFound):
            call("raster.blob_to_mount", desk, local_path=str(path))
    with pytest.raises(errors.FileNotFound):
        call("raster.blob_to_mount", desk, blob_name="none.tif", container_name="bronze")


@pytest.mark.parametrize("name", ["a/..", "..", "a/", "a\nb.tif", "x" * 256])
def test_names_that_are_no_names_are_refused(desk: Desk, name: str) -> None:
    with pytest.raises(errors.PathRefused):
        call("raster.blob_to_mount", desk, blob_name=name, container_name="bronze")


def test_link_that_lies_at_the_target_is_not_written_through(desk: Desk, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (desk.job_scratch / "source").mkdir()
    (desk.job_scratch / "source" / "a.tif").symlink_to(victim)
    call("raster.blob_to_mount", desk, local_path=str(make_raster(tmp_path / "a.tif")))
    assert victim.read_text() == "precious"


def test_empty_and_tiny_files_go_no_further(desk: Desk, tmp_path: Path) -> None:
    for content, error in ((b"", errors.FileEmpty), (b"II*\0", errors.FileTooSmall)):
        (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(error):
            call("raster.blob_to_mount", desk, local_path=str(tmp_path / "a.tif"))


# --- raster.validate ---------------------------------------------------------------------------------


def test_validate_says_what_the_raster_is(desk: Desk, tmp_path: Path) -> None:
    source = make_raster(tmp_path / "a.tif", terrain(), nodata=math.nan)
    output = call(
        "raster.validate", desk, local_path=str(source), blob_path=None, storage_account=None, input_crs=None,
        raster_type="auto", output_tier=None,
    )  # fmt: skip
    assert output == {
        "valid": True,
        "source_crs": "EPSG:4326",
        "crs_source": "file_metadata",
        "bounds": pytest.approx([10, 50, 11, 51]),
        "shape": [120, 160],
        "band_count": 1,
        "dtype": "float32",
        "nodata": "nan",
        "size_mb": pytest.approx(source.stat().st_size / 2**20, abs=1e-5),
        "raster_type": {"type": "dem", "confidence": "HIGH"},
        "compression_profile": "lerc_deflate",
        "applicable_tiers": ["analysis", "archive"],
        "estimated_compressed_mb": pytest.approx(120 * 160 * 4 * 0.4 / 2**20, abs=1e-3),
        "warnings": [],
    }
    percents = [percent for percent, _ in desk.reported]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_validate_fetches_a_blob(desk: Desk, tmp_path: Path) -> None:
    desk.put("bronze", "deep/a.tif", make_raster(tmp_path / "a.tif"))
    assert call("raster.validate", desk, blob_path="bronze/deep/a.tif")["valid"]


@pytest.mark.parametrize("path", ["https://example.org/a.tif", "/vsicurl/x.tif", "/etc/passwd", "file:///etc/passwd"])
def test_validate_reads_nothing_but_the_storage(desk: Desk, path: str) -> None:
    with pytest.raises(errors.PathRefused):
        call("raster.validate", desk, blob_path=path)


def test_validate_wants_one_source(desk: Desk) -> None:
    for given in ({}, {"local_path": "a.tif", "blob_path": "b/a.tif"}):
        with pytest.raises(errors.ParamsInvalid):
            call("raster.validate", desk, **given)


def test_tier_that_does_not_apply_is_a_warning(desk: Desk, tmp_path: Path) -> None:
    source = make_raster(tmp_path / "a.tif", terrain())
    (warning,) = call("raster.validate", desk, local_path=str(source), output_tier="visualization")["warnings"]
    assert "analysis is applied" in warning


# --- raster.create_cog -------------------------------------------------------------------------------


def test_cog_and_preview_are_staged_and_asked_for(desk: Desk, tmp_path: Path) -> None:
    source = make_raster(tmp_path / "Hills of X.tif", np.tile(terrain(), (1, 6, 6)), nodata=-9999)
    output = ingest(desk, source, target_crs=None, output_tier=None, output_folder=None)
    assert output["cog_container"] == "silver-cogs"
    assert output["cog_blob"] == "cogs/hills-of-x_analysis.tif"
    assert output["preview_blob"] == "cogs/hills-of-x_analysis.preview.png"
    assert desk.storage.list("silver-cogs") == [], "nothing is visible before the attempt is accepted"
    files = published(desk)
    cog = files[output["cog_blob"]]
    assert cog_validate(cog, strict=True)[0]
    assert output["file_checksum"] == hashlib.sha256(cog.read_bytes()).hexdigest()
    assert output["size_bytes"] == cog.stat().st_size
    with rasterio.open(cog) as result, rasterio.open(source) as begin:
        assert np.array_equal(result.read(), begin.read())
        assert output["transform"] == list(result.transform)[:6]
        assert output["bounds"] == output["bounds_4326"] == pytest.approx(list(result.bounds))
    with rasterio.open(files[output["preview_blob"]]) as picture:
        assert max(picture.shape) == 512
    assert (output["compression"], output["tier"], output["overview_levels"]) == ("DEFLATE", "analysis", [2])
    assert (output["crs"], output["epsg"], output["shape"], output["dtype"]) == (
        "EPSG:4326",
        4326,
        [720, 960],
        "float32",
    )
    assert output["nodata"] == -9999
    assert output["wkt2"].startswith("GEOGCRS[")
    assert (output["raster_type"], output["colormap"]) == ("dem", "terrain")
    percents = [percent for percent, _ in desk.reported]
    begun = percents.index(100.0) + 1  # so far validate spoke
    assert percents[begun:] == sorted(percents[begun:])
    assert percents[-1] > 90


def test_statistics_are_those_of_the_valid_pixels(desk: Desk, tmp_path: Path) -> None:
    data = terrain()
    data[0, :30] = np.nan
    output = ingest(desk, make_raster(tmp_path / "a.tif", data))
    valid = data[np.isfinite(data)].astype("float64")
    (band,) = output["raster_bands"]
    assert (band["band"], band["data_type"], band["nodata"]) == (1, "float32", None)
    statistics = band["statistics"]
    assert statistics["minimum"] == pytest.approx(valid.min())
    assert statistics["maximum"] == pytest.approx(valid.max())
    assert statistics["mean"] == pytest.approx(valid.mean(), rel=1e-9)
    assert statistics["stddev"] == pytest.approx(valid.std(), rel=1e-9)
    assert statistics["valid_percent"] == pytest.approx(75)
    assert statistics["p2"] == pytest.approx(np.percentile(valid, 2), abs=2)
    assert statistics["p98"] == pytest.approx(np.percentile(valid, 98), abs=2)
    assert output["rescale"] == [[statistics["p2"], statistics["p98"]]]


def test_empty_band_has_no_statistics_and_a_constant_one_a_range_of_one(desk: Desk, tmp_path: Path) -> None:
    data = np.full((2, 40, 40), 7, "int16")
    data[1] = -1
    output = ingest(desk, make_raster(tmp_path / "a.tif", data, nodata=-1))
    assert [band["statistics"] is None for band in output["raster_bands"]] == [False, True]
    assert output["rescale"] is None
    output = ingest(desk, make_raster(tmp_path / "b.tif", data[:1]))
    assert output["rescale"] == [[7, 8]]


def test_reprojected_cog_says_where_it_lies_now(desk: Desk, tmp_path: Path) -> None:
    source = make_raster(tmp_path / "a.tif", noise(3), crs="EPSG:32633", bounds=(4e5, 55e5, 41e4, 551e4))
    output = ingest(desk, source, target_crs="EPSG:3857", output_tier="visualization", output_folder="Data Set/res/1")
    assert (output["crs"], output["epsg"]) == ("EPSG:3857", 3857)
    assert output["cog_blob"] == "data-set/res/1/a_visualization.tif"
    assert output["compression"] == "JPEG"
    assert output["bounds_4326"] == pytest.approx([13.6, 49.64, 13.77, 49.74], abs=0.05)
    assert output["bounds"][0] > 1e6
    assert [band["color_interpretation"] for band in output["raster_bands"]] == ["red", "green", "blue"]


def test_crs_without_a_code_is_given_as_wkt(desk: Desk, tmp_path: Path) -> None:
    crs = "+proj=laea +lat_0=48 +lon_0=11 +datum=WGS84 +units=m"
    source = make_raster(tmp_path / "a.tif", terrain(), crs=crs, bounds=(0, 0, 16000, 12000))
    output = ingest(desk, source, target_crs=crs)
    assert output["epsg"] is None
    assert output["crs"].startswith("PROJCS[")
    assert output["wkt2"].startswith("PROJCRS[")


@pytest.mark.parametrize(
    ("name", "folder", "path"),
    [
        ("DEM.tif", None, "cogs/dem_analysis.tif"),
        ("dem_analysis.tif", None, "cogs/dem_analysis.tif"),
        ("dem.tif", "risk_analysis", "risk_analysis/dem_analysis.tif"),
        ("my dem.v2.tif", "A B/c", "a-b/c/my-dem.v2_analysis.tif"),
    ],
)
def test_names_follow_the_rules(desk: Desk, tmp_path: Path, name: str, folder: str | None, path: str) -> None:
    assert ingest(desk, make_raster(tmp_path / name, terrain()), output_folder=folder)["cog_blob"] == path


@pytest.mark.parametrize("folder", ["../up", "a/../../b", "/", "…"])
def test_folder_never_leads_out(desk: Desk, tmp_path: Path, folder: str) -> None:
    with pytest.raises(errors.ParamsInvalid):
        ingest(desk, make_raster(tmp_path / "a.tif", terrain()), output_folder=folder)
    assert desk.effects == []


def test_unknown_tier_and_crs_are_refused(desk: Desk, tmp_path: Path) -> None:
    source = make_raster(tmp_path / "a.tif", terrain())
    with pytest.raises(ValidationError):
        ingest(desk, source, output_tier="all")
    with pytest.raises(errors.CrsInvalid):
        ingest(desk, source, target_crs="EPSG:0")
