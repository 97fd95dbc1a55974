"""Published files as they are, with ranges, so that GDAL reads a COG without downloading it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from dagmaster.catalog.base import Catalog
from dagmaster.errors import FileNotFound, NotFound
from dagmaster.serving.links import ASSETS
from dagmaster.serving.queries import storable
from dagmaster.storages.base import ObjectInfo, Storage
from dagmaster.web import problems

MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".parquet": "application/vnd.apache.parquet",
    ".pmtiles": "application/vnd.pmtiles",
}
"""Nothing that a browser would run: files come from submitters and stand at the API's own origin."""
OTHER = "application/octet-stream"
HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Cache-Control": "no-cache"}
ONE = r"\s*(\d{1,18}-\d{0,18}|-\d{1,18})\s*"
RANGES = re.compile(rf"bytes={ONE}(,{ONE})*", re.IGNORECASE | re.ASCII)
"""What RFC 9110 calls a valid range; any other header is to be ignored."""


def create_assets_app(catalog: Catalog, storage: Storage) -> FastAPI:
    """`/{container}/{path}` of the storage, where an item or a collection of the catalog names it as its asset."""
    app = FastAPI(title="dagmaster assets", openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app)

    @app.api_route("/{container}/{path:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, container: str, path: str) -> Response:
        nothing = NotFound(noun="file", id=f"{container}/{path}", remedy="/stac lists what is published.")
        href = f"{ASSETS}{container}/{quote(path)}"
        if not storable(href) or not await catalog.publishes(href):
            raise nothing
        try:
            place, info = await to_thread.run_sync(found_in, storage, container, path)
        except FileNotFound as error:
            raise nothing from error
        tag = f'"{int(info.modified_at * 1e6):x}-{info.size_bytes:x}"'
        headers = HEADERS | {"ETag": tag}
        if tag in [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if not RANGES.fullmatch(request.headers.get("Range", "")):
            request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix.lower(), OTHER)
        return FileResponse(place, headers=headers, media_type=media_type)

    return app


def found_in(storage: Storage, container: str, path: str) -> tuple[str, ObjectInfo]:
    """Address and facts of a file. Errors: FileNotFound."""
    return storage.locate(container, path), storage.head(container, path)
