"""A child's GDAL knows few drivers and no network, and still does what the raster handlers need."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from dagmaster.executors.gdal import PROBE, RASTER_DRIVERS, gdal_environment, registered_drivers
from dagmaster.executors.limits import child_environment
from geo.factories import make_raster

OPEN = """
import json, sys, rasterio
try:
    rasterio.open(sys.argv[1]).close()
    print(json.dumps("opened"))
except rasterio.errors.RasterioIOError as problem:
    print(json.dumps(str(problem)))
"""
WARP = """
import json, sys, numpy, rasterio
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT
with rasterio.open(sys.argv[1]) as source, WarpedVRT(source, crs="EPSG:3857") as warped:
    values = warped.read(1)
    copy(warped, sys.argv[2], driver="COG", compress="DEFLATE")
with rasterio.open(sys.argv[2]) as made:
    same = bool(numpy.array_equal(made.read(1), values))
    print(json.dumps([made.driver, made.crs.to_epsg(), made.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"), same]))
"""
VRT = (
    '<VRTDataset rasterXSize="160" rasterYSize="120"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    '<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
    "</VRTRasterBand></VRTDataset>"
)


@cache
def environment() -> dict[str, str]:
    """What a child is born with."""
    return child_environment(gdal_environment(registered_drivers()))


def in_child(script: str, *words: object) -> Any:
    """What a script prints in a child's environment."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def listener() -> Iterator[Callable[[], tuple[int, int]]]:
    """A port of this machine: returns its number and how many connections it has had."""
    hits: list[object] = []
    over = threading.Event()
    with create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def listen() -> None:
            while not over.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                hits.append(address)
                connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        yield lambda: (server.getsockname()[1], len(hits))
        over.set()
        thread.join()


def test_only_the_allowed_drivers_are_registered() -> None:
    assert set(in_child(PROBE)) == RASTER_DRIVERS


def test_vrt_named_tif_is_refused_though_its_source_is_fine(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "source.tif")
    disguised = tmp_path / "disguised.tif"
    disguised.write_text(VRT.format(source=source))
    assert in_child(OPEN, source) == "opened"
    assert "not recognized" in in_child(OPEN, disguised)


def test_vrt_given_as_text_is_refused(tmp_path: Path) -> None:
    assert in_child(OPEN, VRT.format(source=make_raster(tmp_path / "source.tif"))) != "opened"


@pytest.mark.parametrize(
    "address",
    [
        "/vsicurl/http://127.0.0.1:{port}/a.tif",
        "/vsicurl/http://127.0.0.1:{port}/a.none",
        "/vsicurl?use_head=no&url=http%3A%2F%2F127.0.0.1%3A{port}%2Fa.none",
        "/vsicurl_streaming/http://127.0.0.1:{port}/a.none",
        "/vsizip//vsicurl/http://127.0.0.1:{port}/a.zip/a.tif",
        "http://127.0.0.1:{port}/a.tif",
    ],
)
def test_no_address_is_asked(listener: Callable[[], tuple[int, int]], address: str) -> None:
    port, _ = listener()
    assert in_child(OPEN, address.format(port=port)) != "opened"
    assert listener() == (port, 0)


def test_the_listener_would_have_noticed(listener: Callable[[], tuple[int, int]]) -> None:
    """The same question without the settings does reach the port."""
    port, _ = listener()
    subprocess.run(
        [sys.executable, "-c", OPEN, f"/vsicurl/http://127.0.0.1:{port}/a.tif"],
        env=child_environment({}),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert listener()[1] > 0


def test_reprojection_and_cogs_work(tmp_path: Path) -> None:
    assert in_child(WARP, make_raster(tmp_path / "in.tif"), tmp_path / "out.tif") == ["GTiff", 3857, "COG", True]
