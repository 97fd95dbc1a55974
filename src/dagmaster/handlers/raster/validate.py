"""Judges a raster before anything is made of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from dagmaster.errors import ParamsInvalid
from dagmaster.geo.raster.crs import crs_text
from dagmaster.geo.raster.validate import Validated, validate
from dagmaster.handlers.base import Context, Output, Params, handler
from dagmaster.storages.references import parse_reference

Number = float | str | None
"""A nodata value; `nan` as text, because JSON has no such number."""


class ValidateParams(Params):
    """The file, and what the submitter says of it."""

    local_path: str | None = None
    blob_path: str | None = None
    storage_account: str | None = None
    input_crs: str | None = None
    raster_type: str | None = None
    output_tier: Literal["visualization", "analysis", "archive"] | None = None


class DetectedType(Output):
    """What the raster shows, and how sure that is."""

    type: str
    confidence: str


class ValidateOutput(Output):
    """A raster that may be ingested. `bounds` in its own system, `shape` as height and width."""

    valid: bool
    source_crs: str
    crs_source: str
    bounds: tuple[float, float, float, float]
    shape: tuple[int, int]
    band_count: int
    dtype: str
    nodata: Number
    size_mb: float
    raster_type: DetectedType
    compression_profile: str
    applicable_tiers: list[str]
    estimated_compressed_mb: float
    warnings: list[str]


@handler("raster.validate", queue="heavy")
def run(params: ValidateParams, ctx: Context) -> ValidateOutput:
    """Refuse what cannot be ingested; say what the raster is."""
    path = source_of(params, ctx)
    validated = validate(
        path,
        input_crs=params.input_crs or None,
        raster_type=params.raster_type or None,
        on_progress=lambda share: ctx.progress(100 * share, "reading every block"),
    )
    return output_of(validated, params.output_tier)


def source_of(params: ValidateParams, ctx: Context) -> Path:
    """The local file, fetched first when a reference names it."""
    if (params.local_path is None) == (params.blob_path is None):
        raise ParamsInvalid(problem="give either local_path or blob_path")
    if params.local_path is not None:
        return Path(params.local_path)
    assert params.blob_path is not None
    reference = parse_reference(params.blob_path)
    target = ctx.scratch / Path(reference.path).name
    ctx.storage.fetch(reference.container, reference.path, target)
    return target


def output_of(validated: Validated, tier: str | None = None) -> ValidateOutput:
    """The facts that later nodes and people read."""
    facts = validated.facts
    return ValidateOutput(
        valid=True,
        source_crs=crs_text(validated.crs),
        crs_source=validated.crs_source,
        bounds=facts.bounds,
        shape=(facts.height, facts.width),
        band_count=facts.count,
        dtype=facts.dtype,
        nodata=number(facts.nodata),
        size_mb=round(facts.size_bytes / 2**20, 6),
        raster_type=DetectedType(type=validated.detected.type, confidence=validated.detected.confidence),
        compression_profile=validated.compression_profile,
        applicable_tiers=validated.applicable_tiers,
        estimated_compressed_mb=validated.estimated_compressed_mb,
        warnings=validated.warnings + tier_notes(validated, tier),
    )


def tier_notes(validated: Validated, tier: str | None) -> list[str]:
    """A tier that does not apply is replaced, and that is said."""
    if tier is None or tier in validated.applicable_tiers:
        return []
    return [f"Tier {tier} is for 8-bit pictures of three bands; analysis is applied instead."]


def number(value: float | None) -> Number:
    """A number as JSON has it."""
    return str(value) if value is not None and not math.isfinite(value) else value
