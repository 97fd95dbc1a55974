"""GDAL's allow-list: every driver that the installed wheels register, less the few that submissions need.

GDAL registers its drivers at the first import, so the names are read once in a process of their own and the
settings are put into the environment that children are born with.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

from dagmaster.executors.limits import child_environment, python

RASTER_DRIVERS = frozenset({"GTiff", "COG", "MEM", "PNG", "JPEG"})
"""What raster handlers may open or write. VRT is not among them: a VRT reads any file and any address."""

CACHE_BYTES = 256 * 1024 * 1024

PROBE = """
import json
from rasterio.drivers import raster_driver_extensions
from rasterio.env import Env
with Env() as env:
    print(json.dumps(sorted(env.drivers())))
"""


class DriversUnknown(RuntimeError):
    """The drivers of the installed GDAL could not be listed."""


def registered_drivers(skip: Iterable[str] = ()) -> frozenset[str]:
    """Names of the raster drivers that a new process registers, with those of `skip` left out."""
    extra = {"GDAL_SKIP": ",".join(sorted(skip))} if skip else {}
    done = subprocess.run(
        [python(), "-c", PROBE], env=child_environment(extra), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DriversUnknown(done.stderr.strip().rsplit("\n", 1)[-1])
    return frozenset(json.loads(done.stdout))


def gdal_environment(registered: Iterable[str]) -> dict[str, str]:
    """Settings for children: only allowed drivers, no directory scans, no addresses, a bounded cache."""
    skipped = sorted(set(registered) - RASTER_DRIVERS)
    return {
        "GDAL_SKIP": ",".join(skipped),
        "OGR_SKIP": ",".join(skipped),
        "GDAL_CACHEMAX": str(CACHE_BYTES),
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_PROXY": "127.0.0.1:1",
        "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
        "GDAL_PAM_ENABLED": "NO",
        "GDAL_VRT_ENABLE_PYTHON": "NO",
    }
