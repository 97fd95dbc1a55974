"""Published files as they are, with ranges, so that GDAL reads a COG without downloading it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from dagmaster.errors import FileNotFound, NotFound
from dagmaster.storages.base import Storage
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


def create_assets_app(storage: Storage) -> FastAPI:
    """`/{container}/{path}` of the storage."""
    app = FastAPI(title="dagmaster assets", openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app)

    @app.api_route("/{container}/{path:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, container: str, path: str) -> Response:
        try:
            place = await to_thread.run_sync(storage.locate, container, path)
            info = await to_thread.run_sync(storage.head, container, path)
        except FileNotFound as error:
            raise NotFound(noun="file", id=f"{container}/{path}", remedy="/stac lists what is published.") from error
        tag = f'"{int(info.modified_at * 1e6):x}-{info.size_bytes:x}"'
        headers = HEADERS | {"ETag": tag}
        if tag in [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if not RANGES.fullmatch(request.headers.get("Range", "")):
            request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix.lower(), OTHER)
        return FileResponse(place, headers=headers, media_type=media_type)

    return app
