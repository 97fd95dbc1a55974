"""The process that draws rasters with titiler: `python -m dagmaster.run.serve FD`, FD a listening socket of its parent.

It trusts whoever speaks on the socket; the socket stands in a folder that only the parent may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import attr
import rasterio
import uvicorn
from anyio import to_thread
from fastapi import FastAPI
from rio_tiler.io import Reader
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.core.factory import TilerFactory

THREADS_MAX = 4
REQUESTS_MAX = 50_000
"""Then it ends and is started anew, so that what leaks stays bounded."""
STOP_SECONDS_MAX = 2


@attr.s
class GeoTiffReader(Reader):
    """Opens GeoTIFF only: a VRT may name any file of this machine."""

    def __attrs_post_init__(self) -> None:
        if not self.dataset:
            self.dataset = self._ctx_stack.enter_context(rasterio.open(self.input, driver="GTiff"))
        super().__attrs_post_init__()  # type: ignore[no-untyped-call]  # rio-tiler has no types here


def create_app() -> FastAPI:
    """titiler's routes over whatever `url` names."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS_MAX
        print("ready", flush=True)  # noqa: T201  # the parent waits for this line
        yield

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.include_router(TilerFactory(reader=GeoTiffReader, add_part=False, add_viewer=False).router)
    add_exception_handlers(app, DEFAULT_STATUS_CODES)
    return app


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
