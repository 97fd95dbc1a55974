"""Facts of a COG as `raster.create_cog` gives them; a test names only what it is about."""

from __future__ import annotations

from typing import Any

STATISTICS = {
    "minimum": -0.4,
    "maximum": 0.9,
    "mean": 0.3,
    "stddev": 0.2,
    "valid_percent": 97.5,
    "p2": -0.2,
    "p98": 0.8,
}


def band(number: int = 1, data_type: str = "float32", **more: Any) -> dict[str, Any]:
    facts = {
        "band": number,
        "data_type": data_type,
        "nodata": -9999.0,
        "description": None,
        "color_interpretation": "gray",
        "statistics": STATISTICS,
    }
    return facts | more


def cog(**more: Any) -> dict[str, Any]:
    facts = {
        "cog_blob": "cogs/ndvi_analysis.tif",
        "cog_container": "silver-cogs",
        "preview_blob": "cogs/ndvi_analysis.preview.png",
        "size_mb": 0.1,
        "size_bytes": 123456,
        "file_checksum": "ab" * 32,
        "compression": "deflate",
        "tier": "analysis",
        "overview_levels": [2, 4],
        "processing_seconds": 1.5,
        "crs": "EPSG:32633",
        "epsg": 32633,
        "wkt2": None,
        "bounds": [500000.0, 5000000.0, 501000.0, 5001000.0],
        "bounds_4326": [15.0, 45.15, 15.01, 45.16],
        "transform": [10.0, 0.0, 500000.0, 0.0, -10.0, 5001000.0],
        "shape": [100, 100],
        "resolution": [10.0, 10.0],
        "dtype": "float32",
        "nodata": -9999.0,
        "raster_type": "vegetation_index",
        "raster_bands": [band()],
        "rescale": [[-0.2, 0.8]],
        "colormap": "rdylgn",
    }
    return facts | more
