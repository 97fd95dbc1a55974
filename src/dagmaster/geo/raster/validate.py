"""May this raster be ingested? Header first, then every pixel; every refusal has its code.

Rules: the validation matrix of the raster reference (docs/reference/raster.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rasterio.crs import CRS
from rasterio.errors import CRSError

from dagmaster.errors import (
    CrsInvalid,
    CrsMismatch,
    CrsMissing,
    GeotransformMissing,
    Raster64BitRejected,
    RasterBandInvalid,
    RasterEmpty,
    RasterExtremeValues,
    RasterTooLarge,
)
from dagmaster.geo.raster.detect import (
    Detected,
    applicable_tiers,
    compression_profile,
    detect,
    estimated_compressed_mb,
    settle,
)
from dagmaster.geo.raster.inspect import RasterFacts, inspect, open_raster
from dagmaster.geo.raster.scan import Scan, scan

DECLARED_BYTES_MAX = 64 * 2**30
"""Pixels of one raster, uncompressed."""
RATIO_MAX = 1000
RATIO_FREE_BYTES = 2**30
"""Below this size of pixels no ratio is asked for."""
BANDS_MAX = 100
REJECTED_DTYPES = frozenset({"float64", "int64", "uint64", "complex64", "complex128", "complex_int16"})
EMPTY_SHARE = 0.99
SPARSE_SHARE = 0.90
EXTREME = 1e30


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
    facts = inspect(path)
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
    gib = {"declared_gib": f"{declared / 2**30:,.1f}", "allowed_gib": f"{declared_bytes_max / 2**30:,.1f}"}
    if declared > declared_bytes_max:
        raise RasterTooLarge(path=name, **gib)
    if declared > RATIO_FREE_BYTES and declared > RATIO_MAX * facts.size_bytes:
        why = f"The file has {facts.size_bytes:,} bytes, {declared // facts.size_bytes:,} times less than it declares."
        raise RasterTooLarge(path=name, why=why, **gib)


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
    if facts.crs is None:
        if given is None:
            west, south, east, north = facts.bounds
            looks = f"Its bounds {west:g}, {south:g}, {east:g}, {north:g} fit more than one system; a wrong guess would move the data."
            raise CrsMissing(path=name, why=looks)
        return (
            given,
            "user_override_required",
            [f"{name} names no coordinate system; {input_crs} was taken from the submission."],
        )
    if given is None:
        return facts.crs, "file_metadata", []
    if given != facts.crs and not _same_code(given, facts.crs):
        raise CrsMismatch(path=name, file_crs=crs_text(facts.crs), user_crs=input_crs)
    return facts.crs, "user_confirmed", []


def parse_crs(text: str) -> CRS:
    """A coordinate system from an authority code, WKT or PROJ text. Errors: CrsInvalid."""
    try:
        return CRS.from_user_input(text)
    except (CRSError, ValueError, TypeError) as problem:
        raise CrsInvalid(crs=text, why=str(problem).split("\n", 1)[0]) from problem


def crs_text(crs: CRS) -> str:
    """The authority code where there is one, else WKT."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()


def _same_code(one: CRS, other: CRS) -> bool:
    return one.to_authority() is not None and one.to_authority() == other.to_authority()


def check_placement(facts: RasterFacts, name: str) -> None:
    """The geotransform says where the pixels lie; control points alone do not."""
    matrix = facts.transform
    if not matrix.is_identity and matrix.determinant != 0:
        return
    kinds = [word for word, there in (("ground control points", facts.has_gcps), ("RPCs", facts.has_rpcs)) if there]
    why = f"It has {' and '.join(kinds)}, which must be turned into a geotransform first." if kinds else None
    remedy = "Warp it first (gdalwarp), then submit the result." if kinds else None
    raise GeotransformMissing(path=name, why=why, remedy=remedy)


def check_values(facts: RasterFacts, seen: Scan, name: str) -> list[str]:
    """Enough values, and none that look like an undeclared nodata; returns warnings."""
    share = seen.nodata_share
    if share >= EMPTY_SHARE and not facts.has_mask:
        raise RasterEmpty(path=name, share_percent=f"{100 * share:.1f}")
    for band in seen.bands:
        for value in (band.maximum, band.minimum):
            if band.has_values and abs(value) >= EXTREME:
                raise RasterExtremeValues(path=name, value=f"{value:g}")
    return [f"{name} is {100 * share:.0f} % nodata."] if share >= SPARSE_SHARE else []


def advice(facts: RasterFacts, seen: Scan) -> list[str]:
    """What would make the raster smaller or safer."""
    hints = []
    if facts.dtype.startswith("float") and all(band.whole for band in seen.bands if band.has_values):
        hints.append("All values are whole numbers; an integer type would be smaller.")
    first = seen.bands[0]
    if (
        facts.nodata is not None
        and first.has_values
        and first.minimum < facts.nodata < first.maximum
        and not facts.has_palette
    ):
        hints.append(f"The nodata value {facts.nodata:g} lies between the smallest and the largest value.")
    return hints


def _out_of_range(facts: RasterFacts, crs: CRS) -> list[str]:
    west, south, east, north = facts.bounds
    if crs.is_geographic and (west < -180.001 or east > 180.001 or south < -90.001 or north > 90.001):
        return ["The bounds leave ±180/±90 degrees."]
    return []
