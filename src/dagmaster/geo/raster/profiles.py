"""Tables: how each type of raster is resampled and drawn, and what each tier means for the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK_SIZE = 512
JPEG_QUALITY = 85
DEFLATE_LEVEL = 1
"""Level 6 takes twice the time and saves nothing once the predictor is on (measured on imagery and terrain)."""
ZSTD_LEVEL = 9

TYPES = (
    "rgb", "rgba", "dem", "categorical", "multispectral", "nir", "continuous", "vegetation_index", "flood_depth",
    "flood_probability", "hydrology", "temporal", "population",
)  # fmt: skip
"""What a submission may say a raster is, besides `auto`."""

TIERS = ("visualization", "analysis", "archive")


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a type is resampled, and the colours of its single band."""

    overviews: str
    warp: str
    colormap: str | None = None


SMOOTH = Treatment("cubic", "cubic")
PLAIN = Treatment("average", "bilinear")

TREATMENTS: dict[str, Treatment] = {
    "rgb": SMOOTH,
    "rgba": SMOOTH,
    "nir": SMOOTH,
    "unknown": SMOOTH,
    "multispectral": PLAIN,
    "dem": Treatment("average", "bilinear", "terrain"),
    "flood_depth": Treatment("average", "bilinear", "blues"),
    "flood_probability": Treatment("average", "bilinear", "blues"),
    "hydrology": Treatment("average", "bilinear", "blues"),
    "continuous": Treatment("average", "bilinear", "viridis"),
    "population": Treatment("average", "bilinear", "viridis"),
    "vegetation_index": Treatment("average", "bilinear", "rdylgn"),
    "categorical": Treatment("mode", "nearest", "viridis"),
    "temporal": Treatment("nearest", "nearest", "viridis"),
}


def treatment(raster_type: str) -> Treatment:
    """The treatment of a type; an unheard-of one is treated as unknown."""
    return TREATMENTS.get(raster_type, SMOOTH)


def applicable_tiers(count: int, dtype: str) -> tuple[str, ...]:
    """JPEG is for pictures of three bands of eight bits; the lossless tiers are for everything."""
    return TIERS if (count, dtype) == (3, "uint8") else TIERS[1:]


def applied_tier(wanted: str | None, count: int, dtype: str) -> str:
    """The tier that will be applied: what was wanted, else analysis."""
    return wanted if wanted in applicable_tiers(count, dtype) else "analysis"


def compression_of(tier: str) -> str:
    """The codec of a tier."""
    return {"visualization": "jpeg", "archive": "zstd"}.get(tier, "deflate")


def creation_options(tier: str, dtype: str, raster_type: str) -> dict[str, Any]:
    """Options of GDAL's COG driver."""
    options: dict[str, Any] = {
        "BLOCKSIZE": BLOCK_SIZE,
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
        "OVERVIEWS": "IGNORE_EXISTING",  # those of the source may be lossy, or resampled as suits another type
        "OVERVIEW_RESAMPLING": treatment(raster_type).overviews.upper(),
        "COMPRESS": compression_of(tier).upper(),
    }
    if tier == "visualization":
        return {**options, "QUALITY": JPEG_QUALITY}
    return {**options, "LEVEL": ZSTD_LEVEL if tier == "archive" else DEFLATE_LEVEL, "PREDICTOR": predictor(dtype)}


def predictor(dtype: str) -> int:
    """TIFF's predictor: differences for integers, byte planes for floats."""
    return 3 if np.dtype(dtype).kind == "f" else 2


def estimated_ratio(raster_type: str, tier: str) -> float:
    """Compressed over unpacked size, as experience has it."""
    compression = compression_of(tier)
    if compression == "jpeg":
        return 0.10
    if raster_type in ("categorical", "temporal"):
        return 0.01 if compression == "zstd" else 0.05
    if raster_type in ("dem", "flood_depth", "hydrology"):
        return 0.40
    return 0.30 if raster_type == "multispectral" else 0.25
