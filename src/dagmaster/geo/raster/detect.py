"""What a raster shows, and which profile suits it.

Rules: the detection table of the raster reference (docs/reference/raster.md); the first line that fits decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from dagmaster.errors import RasterTypeMismatch
from dagmaster.geo.raster.inspect import RasterFacts
from dagmaster.geo.raster.scan import Scan

AUTO = "auto"
TYPES = (
    "rgb", "rgba", "dem", "categorical", "multispectral", "nir", "continuous", "vegetation_index", "flood_depth",
    "flood_probability", "hydrology", "temporal", "population",
)  # fmt: skip
MEASURED = frozenset({"dem", "continuous", "vegetation_index", "unknown"})
"""One band of measurements: what they measure is for the submitter to say. Legacy left `vegetation_index` out, and so
refused a flood probability, whose values lie between 0 and 1."""
REFINES: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("flood_depth", "flood_probability", "hydrology", "population", "vegetation_index", "continuous"), MEASURED
    ),
    "temporal": MEASURED | {"categorical"},
    "dem": frozenset({"continuous", "unknown"}),
    "categorical": frozenset({"unknown"}),
    "multispectral": frozenset({"nir", "unknown"}),
}
"""What a hint may say over what was detected."""

PROFILES = {
    "rgb": "jpeg", "rgba": "webp", "dem": "lerc_deflate", "flood_depth": "lerc_deflate", "hydrology": "lerc_deflate",
    "categorical": "deflate",
}  # fmt: skip
RATIOS = {
    ("rgb", "jpeg"): 0.10,
    ("rgba", "webp"): 0.15,
    ("dem", "lerc_deflate"): 0.40,
    ("categorical", "deflate"): 0.05,
    ("multispectral", "deflate"): 0.30,
}
RATIO_OTHERWISE = 0.25
RESAMPLING = {
    "rgb": ("cubic", "cubic"), "rgba": ("cubic", "cubic"), "nir": ("cubic", "cubic"), "unknown": ("cubic", "cubic"),
    "categorical": ("mode", "nearest"), "temporal": ("nearest", "nearest"),
}  # fmt: skip
RESAMPLING_OTHERWISE = ("average", "bilinear")
PHOTO_DTYPES = ("uint8", "uint16")
SURFACE_DTYPES = ("float32", "float64", "int16", "int32")


@dataclass(frozen=True)
class Detected:
    """A type and how sure it is."""

    type: str
    confidence: str


def detect(facts: RasterFacts, scan: Scan) -> Detected:
    """What the raster looks like, from bands, sample type and values."""
    first = scan.bands[0]
    if facts.count == 3 and facts.dtype in PHOTO_DTYPES:
        return Detected("rgb", "VERY_HIGH" if facts.color_interpretation[0] == "red" else "HIGH")
    if facts.count == 4 and facts.dtype in PHOTO_DTYPES:
        last = scan.bands[3]
        if facts.color_interpretation[3] == "alpha":
            return Detected("rgba", "VERY_HIGH")
        if last.has_values and last.maximum <= 255 and last.stddev < 50:
            return Detected("rgba", "HIGH")
        return Detected("nir", "MEDIUM" if last.has_values else "LOW")
    if facts.count == 1 and facts.has_palette:
        return Detected("categorical", "VERY_HIGH")
    if facts.count == 1 and facts.dtype in SURFACE_DTYPES:
        return _surface(facts, first.minimum, first.maximum, first.stddev)
    if facts.count == 1 and first.has_values and first.spread < 256 and first.whole:
        return Detected("categorical", "HIGH")
    if facts.count >= 5:
        return Detected("multispectral", "MEDIUM")
    return Detected("unknown", "LOW")


def _surface(facts: RasterFacts, low: float, high: float, stddev: float) -> Detected:
    spread = high - low if low <= high else 0.0
    if facts.dtype.startswith("float") and low >= -1 and high <= 1 and spread > 0.1:
        return Detected("vegetation_index", "HIGH")
    if spread > 0 and stddev / spread < 0.3:
        return Detected("dem", "HIGH")
    return Detected("continuous", "MEDIUM" if spread > 0 else "LOW")


def settle(name: str, detected: Detected, hint: str | None) -> Detected:
    """The detected type, or the submitter's hint where it agrees or refines. Errors: RasterTypeMismatch."""
    if hint is None or hint in (AUTO, detected.type):
        return detected
    if hint in TYPES and detected.type in REFINES.get(hint, frozenset()):
        return Detected(hint, detected.confidence)
    remedy = None if hint in TYPES else f"raster_type is one of: auto, {', '.join(TYPES)}."
    raise RasterTypeMismatch(hint=hint, path=name, detected=detected.type, remedy=remedy)


def compression_profile(kind: str, dtype: str) -> str:
    """The profile of the type table; lossy picture codecs only for 8-bit samples."""
    profile = PROFILES.get(kind, "deflate")
    return "deflate" if profile in ("jpeg", "webp") and dtype != "uint8" else profile


def applicable_tiers(facts: RasterFacts) -> list[str]:
    """The output tiers that really apply; `visualization` is for 8-bit pictures of three bands."""
    pictures = ["visualization"] if facts.count == 3 and facts.dtype == "uint8" else []
    return [*pictures, "analysis", "archive"]


def estimated_compressed_mb(facts: RasterFacts, kind: str, profile: str) -> float:
    """Megabytes (2^20) of the result, from the declared pixels and the ratio of the type's profile."""
    return facts.declared_bytes / 2**20 * RATIOS.get((kind, profile), RATIO_OTHERWISE)


def resampling(kind: str) -> tuple[str, str]:
    """Names of the resampling for overviews and for reprojection."""
    return RESAMPLING.get(kind, RESAMPLING_OTHERWISE)
