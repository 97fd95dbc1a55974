"""May this raster be ingested? Header first, then every pixel; every refusal has its code.

Rules: the validation matrix of the raster reference (docs/reference/raster.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.crs import CRS

from dagmaster.errors import (
    CrsMismatch,
    CrsMissing,
    GeotransformMissing,
    InvalidFormat,
    Raster64BitRejected,
    RasterBandInvalid,
    RasterEmpty,
    RasterExtremeValues,
    RasterTooLarge,
)
from dagmaster.geo.raster.crs import is_earthly, parse_crs, same, short
from dagmaster.geo.raster.detect import (
    Detected,
    applicable_tiers,
    compression_profile,
    detect,
    estimated_compressed_mb,
    settle,
)
from dagmaster.geo.raster.header import declared_size
from dagmaster.geo.raster.inspect import RasterFacts, inspect, open_raster
from dagmaster.geo.raster.scan import Scan, scan

DECLARED_BYTES_MAX = 64 * 2**30
"""Pixels of one raster, uncompressed."""
BLOCK_BYTES_MAX = 2**30
"""One packed block is unpacked as a whole, so this is memory."""
RATIO_MAX = 200
RATIO_FREE_BYTES = 2**30
"""Below this size of pixels no ratio is asked for: a land mask of 648 MB in 3 MB is honest."""
BLOCKS_PROBED = 256
BANDS_MAX = 100
REJECTED_DTYPES = frozenset({"float64", "int64", "uint64", "complex64", "complex128", "complex_int16", "complex_int32"})
EMPTY_SHARE = 0.99
SPARSE_SHARE = 0.90
EXTREME = 1e30
UNDECLARED_SHARE = 0.01
INTEGERS = {"uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


@dataclass(frozen=True)
class Validated:
    """A raster that may be ingested, and what was learnt of it."""

    facts: RasterFacts
    scan: Scan
    crs: CRS
    crs_source: str
    """user_confirmed, file_metadata or user_override_required."""
    detected: Detected
    compression_profile: str
    applicable_tiers: list[str]
    estimated_compressed_mb: float
    warnings: list[str]


def validate(
    path: Path,
    *,
    input_crs: str | None = None,
    raster_type: str | None = None,
    declared_bytes_max: int = DECLARED_BYTES_MAX,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Validated:
    """Judge the file. Errors: one class of `errors.py` for each row of the matrix."""
    try:
        facts = inspect(path)
    except InvalidFormat:
        refuse_impossible_size(path, declared_bytes_max)
        raise
    name = path.name
    check_size(facts, name, declared_bytes_max)
    check_bands(facts, name)
    crs, crs_source, warnings = settle_crs(facts, name, input_crs)
    check_placement(facts, name)
    with open_raster(path) as raster:
        seen = scan(raster, path, on_progress)
    warnings += check_values(facts, seen, name)
    detected = settle(name, detect(facts, seen), raster_type)
    profile = compression_profile(detected.type, facts.dtype)
    return Validated(
        facts=facts,
        scan=seen,
        crs=crs,
        crs_source=crs_source,
        detected=detected,
        compression_profile=profile,
        applicable_tiers=applicable_tiers(facts),
        estimated_compressed_mb=round(estimated_compressed_mb(facts, detected.type, profile), 3),
        warnings=warnings + advice(facts, seen) + _out_of_range(facts, crs),
    )


def check_size(facts: RasterFacts, name: str, declared_bytes_max: int) -> None:
    """The declared pixels are judged before any is read: a header may declare what no disk holds."""
    declared = facts.declared_bytes
    if declared > declared_bytes_max:
        raise _too_large(name, declared, declared_bytes_max)
    if facts.compression and facts.block_bytes > BLOCK_BYTES_MAX:
        raise _too_large(name, facts.block_bytes, BLOCK_BYTES_MAX, why="This is the size of a single block of it.")
    allowed = max(RATIO_MAX * facts.size_bytes, RATIO_FREE_BYTES)
    if declared > allowed and declared * present_share(facts) > allowed:
        ratio = declared // facts.size_bytes
        why = f"The file has {facts.size_bytes:,} bytes, {ratio:,} times less than it declares."
        raise _too_large(name, declared, allowed, why=why)


def refuse_impossible_size(path: Path, declared_bytes_max: int) -> None:
    """Some headers declare so much that GDAL does not even open them, and says all kinds of things about it."""
    size = declared_size(path)
    if size is not None and size[0] * size[1] > declared_bytes_max:
        why = f"Its header says {size[0]:,} by {size[1]:,} pixels."
        raise _too_large(path.name, size[0] * size[1], declared_bytes_max, why=why)


def _too_large(name: str, declared: int, allowed: int, why: str | None = None) -> RasterTooLarge:
    return RasterTooLarge(
        path=name, why=why, declared_gib=f"{declared / 2**30:,.1f}", allowed_gib=f"{allowed / 2**30:,.1f}"
    )


def present_share(facts: RasterFacts) -> float:
    """The share of blocks that have bytes in the file, by a spread of them; a sparse file may declare much."""
    rows, columns = facts.block_shape
    across, down = math.ceil(facts.width / columns), math.ceil(facts.height / rows)
    picks = np.unique(np.linspace(0, across * down - 1, BLOCKS_PROBED).astype(np.int64)).tolist()
    with open_raster(facts.path) as raster:
        there = [
            raster.get_tag_item(f"BLOCK_OFFSET_{pick % across}_{pick // across}", "TIFF", bidx=1) for pick in picks
        ]
    return sum(offset not in (None, "0") for offset in there) / len(picks)


def check_bands(facts: RasterFacts, name: str) -> None:
    """1 to 100 bands, of a sample type that clients draw."""
    if not 1 <= facts.count <= BANDS_MAX:
        raise RasterBandInvalid(path=name, count=facts.count)
    for dtype in facts.dtypes:
        if dtype in REJECTED_DTYPES or dtype.startswith("complex"):
            raise Raster64BitRejected(path=name, dtype=dtype)


def settle_crs(facts: RasterFacts, name: str, input_crs: str | None) -> tuple[CRS, str, list[str]]:
    """The four cases of file and user, compared as coordinate systems and not as text."""
    given = parse_crs(input_crs) if input_crs else None
    found = facts.crs if facts.crs and is_earthly(facts.crs) else None
    if found is None and given is None:
        west, south, east, north = facts.bounds
        box = f"{west:g}, {south:g}, {east:g}, {north:g}"
        why = f"Its bounds {box} fit more than one system; a wrong guess would move the data."
        raise CrsMissing(path=name, why="Its system is a local one, tied to no place." if facts.crs else why)
    if found is None:
        assert given is not None
        warning = f"{name} names no coordinate system; {short(given)} was taken from the submission."
        return given, "user_override_required", [warning]
    if given is None:
        return found, "file_metadata", []
    if not same(given, found):
        raise CrsMismatch(path=name, file_crs=short(found), user_crs=short(given))
    return found, "user_confirmed", []


def check_placement(facts: RasterFacts, name: str) -> None:
    """The geotransform says where the pixels lie; control points alone do not."""
    matrix = tuple(facts.transform)[:6]
    is_identity = matrix == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    area = matrix[0] * matrix[4] - matrix[1] * matrix[3]
    if all(map(math.isfinite, matrix)) and not is_identity and area != 0:
        return
    kinds = [f"{facts.gcp_count} ground control points (GCPs)"] if facts.gcp_count else []
    kinds += ["RPCs"] if facts.has_rpcs else []
    why = f"It has {' and '.join(kinds)}, which must be turned into a geotransform first." if kinds else None
    remedy = "Warp it first (gdalwarp), then submit the result." if kinds else None
    raise GeotransformMissing(path=name, why=why, remedy=remedy)


def check_values(facts: RasterFacts, seen: Scan, name: str) -> list[str]:
    """Enough values, and none that look like an undeclared nodata; returns warnings."""
    share = seen.nodata_share
    if share >= EMPTY_SHARE:
        raise RasterEmpty(path=name, share_percent=f"{100 * share:.1f}")
    for band in seen.bands:
        for value in (band.maximum, band.minimum):
            if band.has_values and abs(value) >= EXTREME:
                raise RasterExtremeValues(path=name, value=f"{value:g}")
        if band.infinite:
            raise RasterExtremeValues(path=name, value="infinity")
    return [f"{name} is {100 * share:.0f} % nodata."] if share >= SPARSE_SHARE else []


def advice(facts: RasterFacts, seen: Scan) -> list[str]:
    """What would make the raster smaller or safer."""
    smaller = smaller_dtype(seen) if facts.dtype.startswith("float") else None
    hints = []
    if smaller:
        saved = 100 - 100 * np.dtype(smaller).itemsize // np.dtype(facts.dtype).itemsize
        hints.append(f"All values are whole numbers: {smaller} would hold them and save {saved} %.")
    for number, band in enumerate(seen.bands, start=1):
        if facts.nodata is not None and band.has_values and band.minimum < facts.nodata < band.maximum:
            between = f"between {band.minimum:g} and {band.maximum:g}"
            if not facts.has_palette:
                hints.append(f"Band {number}: the nodata value {facts.nodata:g} lies inside the data, {between}.")
        hints += [
            f"Band {number}: {100 * count / band.total:.0f} % are {value:g}; declare it if it means nodata."
            for value, count in band.undeclared.items()
            if count >= UNDECLARED_SHARE * band.total
        ]
    return hints


def smaller_dtype(seen: Scan) -> str | None:
    """The smallest integer type that holds all values, when all are whole."""
    bands = [band for band in seen.bands if band.has_values]
    if not bands or not all(band.whole for band in bands):
        return None
    low, high = min(band.minimum for band in bands), max(band.maximum for band in bands)
    return next((name for name, (least, most) in INTEGERS.items() if least <= low and high <= most), None)


def _out_of_range(facts: RasterFacts, crs: CRS) -> list[str]:
    west, south, east, north = facts.bounds
    if crs.is_geographic and (west < -180.001 or east > 180.001 or south < -90.001 or north > 90.001):
        return ["The bounds leave ±180/±90 degrees."]
    if "UTM zone" in crs.wkt and not -1e6 <= west <= east <= 2e6:
        return [f"Eastings from {west:g} to {east:g} are far outside a UTM zone."]
    return []
