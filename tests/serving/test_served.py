"""What `dagmaster up` serves, with the clients that people use."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pystac_client
import pytest
import rasterio
from rasterio.io import MemoryFile

from acceptance.conftest import Program, Up, alive
from catalog.stac_schemas import faults
from dagmaster.run.local import listening_socket
from geo.factories import make_raster, terrain
from waiting import eventually

MARBLE, SMALL = "blue-marble", "hills"


@pytest.fixture(scope="module")
def up(shared_program: Program, raster: Path, session_folder: Path) -> Iterator[Up]:
    """A running dagmaster with the Blue Marble and a small raster of heights."""
    small = make_raster(session_folder / "hills.tif", terrain(), bounds=(10, 50, 11, 51))
    with shared_program.up() as up:
        for source, collection in ((raster, MARBLE), (small, SMALL)):
            words = ("submit", "raster_ingest", "-i", f"local_path={source}", "-i", f"collection_id={collection}")
            job = up.until(shared_program.run(*words).stdout.strip(), "COMPLETED", "FAILED")
            assert job["status"] == "COMPLETED", job
        yield up


@pytest.fixture(scope="module")
def stac(up: Up) -> pystac_client.Client:
    return pystac_client.Client.open(f"{up.url}/stac")


@pytest.fixture(scope="module")
def http(up: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=up.url, timeout=90, trust_env=False) as client:
        yield client


def only(stac: pystac_client.Client, **asked: Any) -> Any:
    (found,) = stac.search(**asked).items()
    return found


def tiles(stac: pystac_client.Client, collection: str) -> str:
    return f"/tiles/{collection}/{only(stac, collections=[collection]).id}"


def tiler_of(up: Up) -> set[int]:
    found = set()
    for pid in alive(up.descendants()):
        if b"dagmaster.run.serve" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.add(pid)
    return found


def test_public_client_searches(stac: pystac_client.Client) -> None:
    assert {collection.id for collection in stac.get_collections()} == {MARBLE, SMALL}
    hills = only(stac, collections=[SMALL])
    assert only(stac, ids=[hills.id]).id == hills.id
    assert {item.collection_id for item in stac.search(bbox=[10.2, 50.2, 10.4, 50.4]).items()} == {MARBLE, SMALL}
    assert only(stac, bbox=[-100, -10, -90, 0]).collection_id == MARBLE
    assert not list(stac.search(datetime="2020-01-01T00:00:00Z/..").items())
    assert len(list(stac.search(datetime="../2020-01-01T00:00:00Z").items())) == 2
    collection = stac.get_collection(SMALL)
    assert collection is not None
    assert [item.id for item in collection.get_items()] == [hills.id]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_public_client_pages_through_everything(stac: pystac_client.Client, method: str) -> None:
    found = [str(item.collection_id) for item in stac.search(limit=1, method=method).items()]
    assert sorted(found) == [MARBLE, SMALL]


def test_served_documents_are_valid(http: httpx.Client) -> None:
    for item in http.get("/stac/search").json()["features"]:
        assert not faults(item)
    for collection in http.get("/stac/collections").json()["collections"]:
        assert not faults(collection)


def test_gdal_reads_the_file_over_http_by_ranges(stac: pystac_client.Client, raster: Path) -> None:
    href = only(stac, collections=[MARBLE]).assets["data"].href
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", CPL_VSIL_CURL_ALLOWED_EXTENSIONS=".tif"),
        rasterio.open(f"/vsicurl/{href}") as remote,
        rasterio.open(raster) as source,
    ):
        window = ((1000, 1050), (2000, 2050))
        assert np.array_equal(remote.read(window=window), source.read(window=window))


def picture(content: bytes) -> Any:
    with MemoryFile(BytesIO(content)) as file, file.open() as opened:
        return opened.read()


@pytest.mark.parametrize("collection", [MARBLE, SMALL])
@pytest.mark.parametrize("place", ["0/0/0.png", "thumbnail.png"])
def test_first_picture_is_neither_black_nor_plain(
    http: httpx.Client, stac: pystac_client.Client, collection: str, place: str
) -> None:
    if (collection, place) == (SMALL, "0/0/0.png"):
        place = _tile_over(http.get(f"{tiles(stac, SMALL)}/tilejson.json").json())
    answer = http.get(f"{tiles(stac, collection)}/{place}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    pixels = picture(answer.content)
    colours, counts = np.unique(pixels.reshape(len(pixels), -1), axis=1, return_counts=True)
    assert colours.shape[1] > 16
    assert counts.max() / counts.sum() < 0.95


def _tile_over(tilejson: dict[str, Any]) -> str:
    """The tile in the middle, at the deepest zoom."""
    zoom = tilejson["maxzoom"]
    longitude, latitude, _ = tilejson["center"]
    x = int((longitude + 180) / 360 * 2**zoom)
    y = int((1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * 2**zoom)
    return f"{zoom}/{x}/{y}.png"


@pytest.mark.parametrize(
    ("extension", "media_type"), [("", "image/png"), (".jpg", "image/jpeg"), (".webp", "image/webp")]
)
def test_formats_of_a_tile(http: httpx.Client, stac: pystac_client.Client, extension: str, media_type: str) -> None:
    answer = http.get(f"{tiles(stac, MARBLE)}/1/0/0{extension}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    again = http.get(f"{tiles(stac, MARBLE)}/1/0/0{extension}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_tilejson_says_where_and_what(http: httpx.Client, stac: pystac_client.Client, up: Up) -> None:
    said = http.get(f"{tiles(stac, SMALL)}/tilejson.json?colormap_name=viridis").json()
    assert said["bounds"] == pytest.approx([10, 50, 11, 51], abs=0.001)
    assert said["name"]
    assert 0 <= said["minzoom"] <= said["maxzoom"] < 24
    assert http.get(f"{tiles(stac, MARBLE)}/tilejson.json").json()["maxzoom"] == 5
    assert said["tiles"] == [f"{up.url}{tiles(stac, SMALL)}/{{z}}/{{x}}/{{y}}.png?colormap_name=viridis"]
    z, x, y = _tile_over(said).removesuffix(".png").split("/")
    assert httpx.get(said["tiles"][0].format(z=z, x=x, y=y), trust_env=False, timeout=60).status_code == 200


def test_facts_of_a_raster_name_no_path(http: httpx.Client, stac: pystac_client.Client) -> None:
    answer = http.get(f"{tiles(stac, SMALL)}/info")
    assert answer.json()["count"] == 1
    assert "storage" not in answer.text


def test_caller_names_no_file(http: httpx.Client, stac: pystac_client.Client) -> None:
    """The drawing process takes `url`; a caller's own never reaches it."""
    mine = http.get(f"{tiles(stac, SMALL)}/info?url=/etc/passwd")
    assert mine.json() == http.get(f"{tiles(stac, SMALL)}/info").json()


BAD = [
    ("0/0/1.png", 404), ("1/2/0.png", 404), ("99/0/0.png", 404), ("-1/0/0.png", 404), ("8/0/0.png", 404), ("0/0/0.tif", 422),
    ("5/16/10.png?bidx=2", 422), ("5/16/10.png?bidx=x", 422), ("5/16/10.png?rescale=a", 422), ("5/16/10.png?rescale=nan,1", 422),
    ("5/16/10.png?colormap_name=nope", 422), ("5/16/10.png?colormap_name=%00", 422), ("nothing", 404), (f"{'9' * 400}/0/0.png", 404),
]  # fmt: skip


@pytest.mark.parametrize(("place", "status"), BAD)
def test_what_cannot_be_drawn_is_a_problem_document(
    http: httpx.Client, stac: pystac_client.Client, place: str, status: int
) -> None:
    answer = http.get(f"{tiles(stac, SMALL)}/{place}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert "storage/" not in answer.text


def test_unknown_raster_is_not_found(http: httpx.Client) -> None:
    for path in ("/tiles/none/none/0/0/0.png", "/tiles/hills/none/info", "/tiles/hills/%00/info", "/tiles", "/tiles/x"):
        assert http.get(path).status_code == 404, path


def test_host_header_that_is_no_host_breaks_nothing(http: httpx.Client) -> None:
    for host in ("a b", "[", "x/../y", "é"):
        for path in ("/stac/", "/stac/search"):
            assert http.get(path, headers={b"Host": host.encode()}).status_code < 500, host


def test_killed_tiler_is_replaced(http: httpx.Client, stac: pystac_client.Client, up: Up) -> None:
    place = f"{tiles(stac, MARBLE)}/2/1/1.png"
    assert http.get(place).status_code == 200
    (pid,) = tiler_of(up)
    os.kill(pid, signal.SIGKILL)
    assert http.get(place).status_code == 200
    assert eventually(lambda: tiler_of(up), 30) != {pid}


def test_end_of_an_answer_is_not_held_back() -> None:
    """Head and body are written one after the other; without this the second waits 40 ms for the first's receipt."""
    with listening_socket(None) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_main_process_holds_no_gdal(http: httpx.Client, stac: pystac_client.Client, up: Up) -> None:
    assert http.get(f"{tiles(stac, MARBLE)}/0/0/0.png").status_code == 200
    assert not re.search(r"/(rasterio|numpy)[./]", Path(f"/proc/{up.process.pid}/maps").read_text())


def test_nothing_is_left_after_ctrl_c(http: httpx.Client, stac: pystac_client.Client, up: Up) -> None:
    assert http.get(f"{tiles(stac, MARBLE)}/0/0/0.png").status_code == 200
    started = up.descendants()
    assert tiler_of(up) <= started
    os.kill(up.process.pid, signal.SIGINT)
    assert up.process.wait(timeout=30) == 0
    assert eventually(lambda: not alive(started), 10)
