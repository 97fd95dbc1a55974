"""Makes the cloud-optimised GeoTIFF and its preview."""

from __future__ import annotations

import re
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
from rasterio.io import DatasetReader

from dagmaster.contract.handlers import Effect
from dagmaster.errors import ParamsInvalid, ReprojectionFailed
from dagmaster.geo.raster.cog import Cog, bounds_4326, write_cog
from dagmaster.geo.raster.crs import crs_text, parse_crs, wkt2
from dagmaster.geo.raster.inspect import open_raster
from dagmaster.geo.raster.preview import colormap_of, write_preview
from dagmaster.geo.raster.scan import Scan, scan
from dagmaster.handlers.base import Context, Output, Params, handler
from dagmaster.handlers.raster.validate import Number, ValidateOutput, number

CONTAINER = "silver-cogs"
FOLDER = "cogs"
TIERS = ("visualization", "analysis", "archive")
TARGET_CRS = "EPSG:4326"


class CogParams(Params):
    """The staged source, what was learnt of it, and what is wanted."""

    local_path: str
    validation: ValidateOutput
    target_crs: str | None = None
    output_tier: Literal["visualization", "analysis", "archive"] | None = None
    output_folder: str | None = None
    source_name: str | None = None


class BandStatistics(Output):
    """Over the valid pixels. `p2` and `p98` are approximate percentiles."""

    minimum: float
    maximum: float
    mean: float
    stddev: float
    valid_percent: float
    p2: float
    p98: float


class Band(Output):
    """One band; its number counts from 1."""

    band: int
    data_type: str
    nodata: Number
    description: str | None
    color_interpretation: str
    statistics: BandStatistics | None


class CogOutput(Output):
    """The COG and all that a catalog says of it. Megabytes of 2^20 bytes; bounds as west, south, east, north."""

    cog_blob: str
    cog_container: str
    size_mb: float
    size_bytes: int
    file_checksum: str
    compression: str
    tier: str
    overview_levels: list[int]
    processing_seconds: float
    crs: str
    epsg: int | None
    wkt2: str | None
    bounds: tuple[float, float, float, float]
    bounds_4326: tuple[float, float, float, float]
    transform: list[float]
    shape: tuple[int, int]
    resolution: tuple[float, float]
    dtype: str
    nodata: Number
    raster_type: str
    raster_bands: list[Band]
    rescale: list[tuple[float, float]] | None
    colormap: str | None
    preview_blob: str


@handler("raster.create_cog", queue="heavy")
def run(params: CogParams, ctx: Context) -> CogOutput:
    """Write a valid COG in the target system and tier, with statistics and a preview."""
    began = monotonic()
    source = Path(params.local_path)
    kind = params.validation.raster_type.type
    blob = blob_path(params.output_folder, params.source_name or source.name, params.output_tier or "analysis")
    target = ctx.scratch / "cog.tif"
    cog = write_cog(
        source,
        target,
        crs=parse_crs(params.validation.source_crs),
        target_crs=parse_crs(params.target_crs or TARGET_CRS),
        raster_type=kind,
        tier=params.output_tier or "analysis",
        on_progress=lambda share: ctx.progress(5 + 65 * share, "writing the COG"),
    )
    with open_raster(target) as raster:
        seen = scan(raster, target, lambda share: ctx.progress(70 + 20 * share, "reading it back"))
        facts = describe(raster, seen, kind)
    preview = ctx.scratch / "preview.png"
    write_preview(target, preview, kind)
    preview_blob = blob.removesuffix(".tif") + ".preview.png"
    ctx.progress(92, "storing")
    for file, path in ((target, blob), (preview, preview_blob)):
        staged = ctx.storage.stage(file, CONTAINER, path, ctx.attempt_token)
        ctx.publish(Effect(kind="artifact", body={"container": CONTAINER, "path": path, "staged": staged}))
    return CogOutput(
        **facts, **made(cog), cog_blob=blob, cog_container=CONTAINER, preview_blob=preview_blob,
        processing_seconds=round(monotonic() - began, 3),
    )  # fmt: skip


def blob_path(folder: str | None, name: str, tier: str) -> str:
    """`{folder}/{stem}_{tier}.tif`; a stem that already ends in a tier keeps it. Errors: ParamsInvalid."""
    slug = "/".join(part for part in _slug(folder or FOLDER).split("/") if part)
    stem = _slug(Path(name).stem).replace("/", "-")
    if not stem or not slug or ".." in slug.split("/"):
        raise ParamsInvalid(
            problem=f"no name can be made of folder `{folder}` and file `{name}`",
            remedy="Name a folder below the container, of letters, digits, `-` and `_`, without `..`.",
        )
    suffix = "" if any(stem.endswith(f"_{word}") for word in TIERS) else f"_{tier}"
    return f"{slug}/{stem}{suffix}.tif"


def _slug(text: str) -> str:
    """Lower case, spaces as `-`; only letters, digits, `.`, `_`, `-` and `/` stay."""
    return re.sub(r"[^a-z0-9._/-]", "", text.strip().lower().replace(" ", "-"))


def made(cog: Cog) -> dict[str, Any]:
    return {
        "size_mb": round(cog.size_bytes / 2**20, 6),
        "size_bytes": cog.size_bytes,
        "file_checksum": cog.sha256,
        "compression": cog.compression,
        "tier": cog.tier,
        "overview_levels": cog.overview_levels,
    }


def describe(raster: DatasetReader, seen: Scan, kind: str) -> dict[str, Any]:
    """What the written file holds. Errors: ReprojectionFailed when it has no place in degrees."""
    bounds = bounds_4326(raster)
    if bounds is None:
        raise ReprojectionFailed(
            path=Path(raster.name).name, target_crs="EPSG:4326", problem="it has no bounds in degrees"
        )
    epsg = raster.crs.to_epsg(confidence_threshold=100)
    bands = [band_of(raster, seen, index) for index in range(raster.count)]
    return {
        "crs": crs_text(raster.crs),
        "epsg": epsg,
        "wkt2": wkt2(raster.crs),
        "bounds": tuple(raster.bounds),
        "bounds_4326": bounds,
        "transform": list(raster.transform)[:6],
        "shape": raster.shape,
        "resolution": (abs(raster.res[0]), abs(raster.res[1])),
        "dtype": raster.dtypes[0],
        "nodata": number(raster.nodata),
        "raster_type": kind,
        "raster_bands": bands,
        "rescale": rescale_of(bands),
        "colormap": colormap_of(kind) if raster.count == 1 else None,
    }


def band_of(raster: DatasetReader, seen: Scan, index: int) -> Band:
    """One band with its statistics; None where it has no valid pixel."""
    values = seen.bands[index]
    percentiles = values.percentiles(2, 98)
    statistics = None
    if percentiles is not None:
        statistics = BandStatistics(
            minimum=values.minimum, maximum=values.maximum, mean=values.mean, stddev=values.stddev,
            valid_percent=round(values.valid_percent, 6), p2=percentiles[0], p98=percentiles[1],
        )  # fmt: skip
    return Band(
        band=index + 1,
        data_type=np.dtype(raster.dtypes[index]).name,
        nodata=number(raster.nodata),
        description=raster.descriptions[index],
        color_interpretation=raster.colorinterp[index].name,
        statistics=statistics,
    )


def rescale_of(bands: list[Band]) -> list[tuple[float, float]] | None:
    """The range to draw each band with: percentiles, a step of one for a constant band; None without values."""
    if any(band.statistics is None for band in bands):
        return None
    ranges = [(band.statistics.p2, band.statistics.p98) for band in bands if band.statistics]
    return [(low, high if high > low else low + 1.0) for low, high in ranges]
