"""The sample raster of the demonstration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio

from geo.factories import noise


def test_picture_becomes_a_striped_geotiff_of_the_world(tmp_path: Path) -> None:
    data = noise(3, shape=(90, 180))
    with rasterio.open(tmp_path / "p.png", "w", driver="PNG", width=180, height=90, count=3, dtype="uint8") as picture:
        picture.write(data)
    command = [sys.executable, "-m", "dagmaster.geo.raster.sample", str(tmp_path / "p.png"), str(tmp_path / "out.tif")]
    subprocess.run(command, check=True, env=dict(os.environ))
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert tuple(raster.bounds) == (-180, -90, 180, 90)
        assert raster.crs.to_epsg() == 4326
        assert raster.compression.name == "deflate"
        assert raster.block_shapes[0][1] == raster.width, "strips, not tiles"
        assert raster.overviews(1) == []
        assert np.array_equal(raster.read(), data)
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".xml") == ["out.tif", "p.png"]
