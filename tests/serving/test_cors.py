"""Pages of other origins read what is public; the authority answers none of them."""

from __future__ import annotations

import httpx
import pytest

from dagmaster.serving.cors import Public

ORIGIN = {"Origin": "https://browser.example"}
PUBLIC = [
    "/stac/",
    "/stac/search",
    "/stac/collections/a/items/one",
    "/assets/box-1/a.tif",
    "/stac/nothing",
    "/assets/none/x",
    "/tiles/none/none/tilejson.json",
]


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("headers", [ORIGIN, {}], ids=["asked by a page", "asked by nobody"])
async def test_public_answers_are_open_to_every_origin(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    """Also errors, and also without an Origin: a cache may keep that answer for a page."""
    answer = await client.get(path, headers=headers)
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert "access-control-allow-credentials" not in answer.headers
    assert {"Content-Range", "ETag", "Content-Length"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )


@pytest.mark.parametrize("path", ["/stac/search", "/assets/box-1/a.tif", "/tiles/a/one/0/0/0.png"])
async def test_browser_may_ask_first(client: httpx.AsyncClient, path: str) -> None:
    asked = ORIGIN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,range"}
    answer = await client.options(path, headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert {"range", "content-type", "if-none-match"} <= set(
        answer.headers["access-control-allow-headers"].lower().split(", ")
    )


async def test_authority_answers_no_other_origin(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get("/api/v1/jobs", headers=ORIGIN),
        await client.options("/api/v1/jobs", headers=ORIGIN),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_what_is_no_request_is_handed_on() -> None:
    seen = []

    async def app(scope: object, receive: object, send: object) -> None:
        seen.append(scope)

    await Public(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # never called
    assert seen == [{"type": "lifespan"}]
