"""Looks at the machine and says what is wrong and what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from dagmaster.client.client import Client
from dagmaster.db.lockfile import DataFolderLock
from dagmaster.errors import DagmasterError
from dagmaster.executors.gdal import DriversUnknown, registered_drivers

FREE_GIB_MIN = 2.0
PYTHON_MIN = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    fact: str
    remedy: str = ""


async def examine(data: Path) -> list[Finding]:
    """Everything that a first look can tell, good and bad."""
    found = [_python(), _folder(data), _space(data), await asyncio.to_thread(_gdal)]
    return [*found, await _service(data)]


def _python() -> Finding:
    have = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(
        "Python",
        sys.version_info >= PYTHON_MIN,
        have,
        "" if sys.version_info >= PYTHON_MIN else "Install Python 3.11 or newer.",
    )


def _folder(data: Path) -> Finding:
    nearest = next(folder for folder in (data, *data.parents) if folder.exists())
    ok = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return Finding(
        "data folder",
        ok,
        f"{data} {'can be written' if ok else 'cannot be written'}",
        "" if ok else "Name another with --data.",
    )


def _space(data: Path) -> Finding:
    nearest = next(folder for folder in (data, *data.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free / 2**30
    return Finding(
        "free space", free >= FREE_GIB_MIN, f"{free:.1f} GiB", "" if free >= FREE_GIB_MIN else "Free some space."
    )


def _gdal() -> Finding:
    try:
        return Finding("GDAL", True, f"{len(registered_drivers())} raster drivers; children use an allow-list")
    except (DriversUnknown, OSError) as problem:
        return Finding("GDAL", False, str(problem), "Install dagmaster again: make demo")


async def _service(data: Path) -> Finding:
    holder = DataFolderLock.read(data)
    if holder is None:
        return Finding("dagmaster", True, "not up (dagmaster up starts it)")
    if holder.url is None:
        return Finding("dagmaster", True, f"process {holder.pid} is starting or runs one job")
    try:
        async with Client(holder.url) as client:
            health = await client.health()
    except DagmasterError as problem:
        return Finding(
            "dagmaster",
            False,
            f"process {holder.pid} does not answer at {holder.url}: {problem.why}",
            "Stop it and start it again.",
        )
    parts = ", ".join(f"{name} {part.status} ({part.detail})" for name, part in health.components.items())
    return Finding(
        "dagmaster",
        health.status == "ok",
        f"{health.status} at {holder.url}: {parts}",
        "" if health.status == "ok" else "Look at its log.",
    )
