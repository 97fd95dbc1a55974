"""The program's fixtures, for tests of what it serves; and the public surfaces without a running program."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from acceptance.conftest import program, raster, shared_program
from catalog.cogs import cog
from dagmaster.catalog.documents import collection_document, item_document
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.db.connect import open_pool
from dagmaster.serving.app import with_serving
from dagmaster.serving.tiler import Tiler
from dagmaster.storages import open_storage

__all__ = ["program", "raster", "shared_program"]

FENCE = "019b0000-0000-7000-8000-000000000000-4-0-1"
HOST = "https://maps.example:8443"


@dataclass
class Served:
    """The public surfaces on an address of this machine, and every request that came."""

    url: str
    asked: list[tuple[str, str, str]]
    """Method, path and Range of each request, in the order in which they came."""


@pytest.fixture
async def catalog(database_uri: str) -> AsyncIterator[EmbeddedCatalog]:
    """An empty catalog."""
    pool = await open_pool(database_uri)
    yield EmbeddedCatalog(pool)
    await pool.close()


@pytest.fixture
async def app(catalog: EmbeddedCatalog, tmp_path: Path) -> ASGIApp:
    """Two collections with three items of different years; files `a.tif`, `page.html` and, unpublished, `secret.tif`."""
    files = {"data": {"href": "/assets/box-1/a.tif"}, "page": {"href": "/assets/box-1/page.html"}}
    for name, more in (("a", {"assets": files}), ("b", {})):
        await catalog.put_collection(collection_document(name) | more, FENCE)
    for collection, item, year in (("a", "one", 2019), ("a", "two", 2020), ("b", "three", 2021)):
        document = item_document(
            item, collection, cog(), href_for=lambda box, path: f"/assets/{box}/{path}",
            now=datetime(2026, 1, 1, tzinfo=UTC), moment=datetime(year, 1, 1, tzinfo=UTC),
        )  # fmt: skip
        await catalog.put_item(collection, document, FENCE)
    (tmp_path / "box-1").mkdir()
    (tmp_path / "box-1" / "a.tif").write_bytes(bytes(range(100)))
    (tmp_path / "box-1" / "secret.tif").write_bytes(b"not published")
    (tmp_path / "box-1" / "page.html").write_text("<script>")
    return with_serving(FastAPI(), catalog, open_storage(f"file:{tmp_path}"), Tiler(tmp_path / "tiler"))


@pytest.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client that reaches the application under the address of another host."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
        yield client


@pytest.fixture
async def served(app: ASGIApp) -> AsyncIterator[Served]:
    """The application behind a socket, for programs that are not written in Python."""
    asked: list[tuple[str, str, str]] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append((scope["method"], scope["path"], dict(scope["headers"]).get(b"range", b"").decode()))
        await app(scope, receive, send)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(counting, log_config=None, lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", asked)
        server.should_exit = True
        await task
