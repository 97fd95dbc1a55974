"""The process that draws rasters with titiler: `python -m dagmaster.run.serve FD`, FD a listening socket of its parent.

It trusts whoever speaks on the socket; the socket stands in a folder that only the parent may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from rio_tiler.colormap import cmap as colormaps
from rio_tiler.errors import InvalidColorMapName
from rio_tiler.profiles import PNGProfile, img_profiles
from starlette.datastructures import QueryParams
from starlette.routing import Route
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.core.factory import TilerFactory
from titiler.core.resources.enums import ImageType
from titiler.core.utils import render_image

from dagmaster.serving.reader import GeoTiffReader

THREADS_MAX = 4
REQUESTS_MAX = 50_000
"""Then it ends and is started anew, so that what leaks stays bounded."""
STOP_SECONDS_MAX = 2
TILE_PATH = "/tiles/WebMercatorQuad/{z:int}/{x:int}/{y:int}.{format}"
PNG_LEVEL = 1
"""Of zlib. The default of 6 takes most of a tile's time to save a tenth of its bytes."""


def create_app() -> FastAPI:
    """titiler's routes over whatever `url` names, and a shorter way to its tiles."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS_MAX
        print("ready", flush=True)  # noqa: T201  # the parent waits for this line
        yield

    img_profiles["png"] = PNGProfile(zlevel=PNG_LEVEL)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.router.routes.append(Route(TILE_PATH, tile))
    app.include_router(TilerFactory(reader=GeoTiffReader, add_part=False, add_viewer=False).router)
    add_exception_handlers(app, DEFAULT_STATUS_CODES | {InvalidColorMapName: 422})
    return app


async def tile(request: Request) -> Response:
    """A tile as titiler makes it, of everything that our parent ever asks for.

    titiler's own route reads each group of parameters in a thread, one after the other: longer than drawing takes.
    """
    return Response(*await to_thread.run_sync(_drawn, request.path_params, request.query_params))


def _drawn(path: Mapping[str, Any], query: QueryParams) -> tuple[bytes, int, None, str]:
    ramp = query.get("colormap_name")
    ranges = [(float(low), float(high)) for low, high in (text.split(",") for text in query.getlist("rescale"))]
    with GeoTiffReader(query["url"]) as reader:
        indexes = tuple(map(int, query.getlist("bidx")))
        image = reader.tile(path["x"], path["y"], path["z"], indexes=indexes)
        colormap = colormaps.get(ramp) if ramp else reader.colormap
    content, media_type = render_image(
        image, output_format=ImageType(path["format"]), colormap=colormap or None, rescale=ranges or None
    )
    return content, 200, None, media_type


def main() -> None:
    """Answer until SIGTERM."""
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        config = uvicorn.Config(
            create_app(),
            log_config=None,
            access_log=False,
            limit_max_requests=REQUESTS_MAX,
            timeout_graceful_shutdown=STOP_SECONDS_MAX,
        )
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    main()
