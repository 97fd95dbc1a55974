"""Writes a picture of the world as an untiled GeoTIFF: `python -m dagmaster.geo.raster.sample PICTURE OUT.tif`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_bounds


def write_world(picture: Path, target: Path) -> None:
    """Give the picture the bounds of the world in EPSG:4326; striped, DEFLATE, without overviews. Atomic."""
    part = target.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(picture) as raster:
            data = raster.read()
    count, height, width = data.shape
    transform = from_bounds(-180, -90, 180, 90, width, height)
    with rasterio.open(
        part, "w", driver="GTiff", width=width, height=height, count=count, dtype=data.dtype, crs="EPSG:4326",
        transform=transform, compress="deflate", zlevel=1,
    ) as made:  # fmt: skip
        made.write(data)
    part.replace(target)


if __name__ == "__main__":
    write_world(Path(sys.argv[1]), Path(sys.argv[2]))
