"""The STAC API and the files over an embedded catalog, without a running program."""

from __future__ import annotations

import random
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from serving.conftest import HOST


def ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["features"]]


def links(document: dict[str, Any]) -> dict[str, str]:
    return {link["rel"]: link["href"] for link in document["links"]}


# --- documents -----------------------------------------------------------------------------------------


async def test_every_link_stands_below_the_address_that_was_asked(client: httpx.AsyncClient) -> None:
    for path in (
        "/stac",
        "/stac/",
        "/stac/collections",
        "/stac/collections/a",
        "/stac/collections/a/items",
        "/stac/search",
    ):
        document = (await client.get(path)).raise_for_status().json()
        for link in document["links"]:
            assert link["href"].startswith(f"{HOST}/stac/"), (path, link)
            if link.get("method") != "POST":
                assert (await client.get(link["href"])).status_code == 200, link


async def test_links_stand_below_the_prefix_that_a_proxy_puts_before_us(app: ASGIApp) -> None:
    transport = httpx.ASGITransport(app=app, root_path="/maps")
    async with httpx.AsyncClient(transport=transport, base_url=f"{HOST}/maps") as client:
        for path in ("/stac", "/stac/", "/stac/collections/a", "/stac/search?limit=1", "/stac/collections/a/items/one"):
            document = (await client.get(path)).raise_for_status().json()
            for link in document["links"]:
                assert link["href"].startswith((f"{HOST}/maps/stac/", f"{HOST}/maps/tiles/")), (path, link)
                if link.get("method") != "POST" and "/tiles/" not in link["href"]:
                    assert (await client.get(link["href"])).status_code == 200, link
        (one,) = (await client.get("/stac/search?ids=one")).json()["features"]
        assert one["assets"]["data"]["href"].startswith(f"{HOST}/maps/assets/")
        assert (await client.get("/assets/box-1/a.tif")).status_code == 200


async def test_item_has_its_links_and_absolute_assets(client: httpx.AsyncClient) -> None:
    item = (await client.get("/stac/collections/a/items/one")).json()
    root = f"{HOST}/stac/"
    assert links(item) == {
        "self": f"{root}collections/a/items/one",
        "root": root,
        "parent": f"{root}collections/a",
        "collection": f"{root}collections/a",
        "tilejson": f"{HOST}/tiles/a/one/tilejson.json",
    }
    assert all(asset["href"].startswith(f"{HOST}/assets/") for asset in item["assets"].values())


@pytest.mark.parametrize(
    "path",
    [
        "/stac/collections/c",
        "/stac/collections/c/items",
        "/stac/collections/a/items/none",
        "/stac/collections/a%00",
        "/stac/nothing",
    ],
)
async def test_what_is_not_there_is_a_problem_document(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


# --- searches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["three", "two", "one"]),
        ({"collections": ["a"]}, ["two", "one"]),
        ({"collections": ["nowhere"]}, []),
        ({"ids": ["one", "three"]}, ["three", "one"]),
        ({"datetime": "2020-01-01T00:00:00Z"}, ["two"]),
        ({"datetime": "2020-01-01T00:00:00Z/.."}, ["three", "two"]),
        ({"datetime": "../2019-06-01T00:00:00+02:00"}, ["one"]),
        ({"bbox": [-180, -90, 180, 90]}, ["three", "two", "one"]),
        ({"bbox": [-170, -89, -169, -88]}, []),
    ],
)
async def test_get_and_post_find_the_same(client: httpx.AsyncClient, asked: dict[str, Any], found: list[str]) -> None:
    words = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in asked.items()}
    assert ids((await client.get("/stac/search", params=words)).json()) == found
    assert ids((await client.post("/stac/search", json=asked)).json()) == found


@pytest.mark.parametrize("path", ["/stac/search?limit=1", "/stac/collections/a/items?limit=1"])
async def test_pages_lead_through_every_item_once(client: httpx.AsyncClient, path: str) -> None:
    seen, following = [], f"{HOST}{path}"
    while following:
        page = (await client.get(following)).json()
        seen += ids(page)
        following = links(page).get("next", "")
    assert seen == (["three", "two", "one"] if "search" in path else ["two", "one"])


async def test_pages_of_a_post_keep_the_search(client: httpx.AsyncClient) -> None:
    seen, body = [], {"limit": 1, "collections": ["a"]}
    while body:
        page = (await client.post("/stac/search", json=body)).json()
        seen += ids(page)
        body = next((link["body"] for link in page["links"] if link["rel"] == "next"), {})
    assert seen == ["two", "one"]


BAD_QUERIES = [
    "bbox=1", "bbox=a,b,c,d", "bbox=nan,0,1,1", "bbox=0,0,inf,1", "bbox=0,5,1,1", "bbox=0,0,0,0,0", "datetime=x", "datetime=2020-13-01T00:00:00Z",
    "datetime=../..", "datetime=2021-01-01T00:00:00Z/2020-01-01T00:00:00Z", "datetime=2020-01-01T00:00:00%2B99:99", "datetime=2020-02-30T00:00:00Z",
    "limit=0", "limit=-1", "limit=x", "token=x", "token=%00", "token=" + "A" * 5000, "ids=%00", "collections=a%00b", "intersects=x",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES)
async def test_bad_query_is_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/stac/search?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", "1", '"x"', '{"bbox": [1]}', '{"bbox": "x"}', '{"ids": ["\\u0000"]}', '{"ids": ["\\ud800"]}', '{"limit": 0}',
     '{"token": 1}', '{"token": "x"}', '{"datetime": 5}', '{"datetime": "x"}', '{"intersects": {"type": "Point", "coordinates": [0]}}', '{"intersects": 5}',
     '{"bbox": [0, 0, 1e400, 1]}', '{"bbox": [0, 5, 1, 1]}', '{"collections": "a"}', "[" * 100000],
)  # fmt: skip
async def test_bad_body_is_refused(client: httpx.AsyncClient, body: str) -> None:
    answer = await client.post("/stac/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("QUERY_INVALID", "REQUEST_INVALID", "REQUEST_REFUSED")


async def test_nothing_that_is_asked_breaks_the_service(client: httpx.AsyncClient) -> None:
    luck = random.Random(5)
    pieces = [
        "0",
        "-1",
        "1e309",
        "nan",
        ",",
        "/",
        "..",
        "T",
        "Z",
        "+",
        "%",
        "\0",
        "é",
        "\u2028",
        "2020-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
    ]
    for name in (
        "bbox",
        "datetime",
        "limit",
        "token",
        "ids",
        "collections",
        "intersects",
        "filter",
        "sortby",
        "fields",
    ):
        for _ in range(40):
            value = "".join(luck.choices(pieces, k=luck.randint(0, 7)))
            for path in ("/stac/search", "/stac/collections/a/items"):
                answer = await client.get(path, params={name: value})
                assert answer.status_code < 500, (path, name, value, answer.text)


async def test_more_than_a_page_may_hold_is_cut(client: httpx.AsyncClient) -> None:
    assert len((await client.get("/stac/search?limit=999999")).json()["features"]) == 3


# --- files ---------------------------------------------------------------------------------------------


async def test_range_of_a_file(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/box-1/a.tif", headers={"Range": "bytes=10-19"})
    assert answer.status_code == 206
    assert answer.content == bytes(range(10, 20))
    assert answer.headers["content-range"] == "bytes 10-19/100"
    assert answer.headers["content-type"].startswith("image/tiff")


async def test_several_ranges_of_a_file(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/box-1/a.tif", headers={"Range": "bytes=0-1, -2"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert bytes([0, 1]) in answer.content
    assert bytes([98, 99]) in answer.content
    assert len(answer.content) == int(answer.headers["content-length"])


@pytest.mark.parametrize("words", ["bytes=100-", "bytes=500-600", "bytes=-0"])
async def test_range_behind_the_end_is_416(client: httpx.AsyncClient, words: str) -> None:
    answer = await client.get("/assets/box-1/a.tif", headers={"Range": words})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */100")


@pytest.mark.parametrize("words", ["bytes=x", "pages=1-2", "bytes=", "bytes=-", "bytes=1-2-3", "nonsense"])
async def test_header_that_is_no_range_is_ignored(client: httpx.AsyncClient, words: str) -> None:
    answer = await client.get("/assets/box-1/a.tif", headers={"Range": words})
    assert (answer.status_code, len(answer.content)) == (200, 100)


async def test_head_tells_size_ranges_and_tag(client: httpx.AsyncClient) -> None:
    answer = await client.head("/assets/box-1/a.tif")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["content-length"], answer.headers["accept-ranges"]) == ("100", "bytes")
    again = await client.get("/assets/box-1/a.tif", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "box-1/none.tif",
        "box-1/secret.tif",
        "none/a.tif",
        "box-1/../box-1/a.tif",
        "box-1/%2e%2e/a.tif",
        "box-1/..%2f..%2fetc/passwd",
        "box-1//etc/passwd",
        ".staged/x/y",
        "box-1/%00",
        "box-1/",
    ],
)
async def test_file_that_is_not_published(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(httpx.URL(HOST, raw_path=f"/assets/{path}".encode()))
    if path == "box-1/../box-1/a.tif" and answer.status_code == 200:
        return  # the client itself resolved the dots
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_page_of_a_submitter_is_not_run_by_a_browser(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/box-1/page.html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
