"""The public surfaces beside another application, each below its prefix."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from dagmaster.catalog.base import Catalog
from dagmaster.serving.assets import create_assets_app
from dagmaster.serving.cors import Public
from dagmaster.serving.stac import create_stac_app
from dagmaster.serving.tiler import Tiler
from dagmaster.serving.tiles import create_tiles_app
from dagmaster.storages.base import Storage


def with_serving(rest: ASGIApp, catalog: Catalog, storage: Storage, tiler: Tiler) -> ASGIApp:
    """`/stac`, `/assets` and `/tiles`, open to pages of any origin; everything else, and the lifespan, is `rest`'s."""
    return Dispatcher(
        rest,
        {
            "/stac": Public(create_stac_app(catalog)),
            "/assets": Public(create_assets_app(catalog, storage)),
            "/tiles": Public(create_tiles_app(catalog, storage, tiler)),
        },
    )


class Dispatcher:
    """Picks an application by the prefix of the path.

    Starlette's `mount` takes the prefix out of what frameworks build links from; with `root_path` set and the path left
    whole, every link is right.
    """

    def __init__(self, rest: ASGIApp, below: Mapping[str, ASGIApp]) -> None:
        self.rest = rest
        self.below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root: str = scope.get("root_path", "")
            path: str = scope["path"]
            path = path.removeprefix(root) if path.startswith(root + "/") else path
            for prefix, app in self.below.items():
                if path == prefix or path.startswith(prefix + "/"):
                    whole = root + (prefix + "/" if path == prefix else path)
                    inner = {**scope, "path": whole, "root_path": root + prefix}
                    await app(inner, receive, send)
                    return
        await self.rest(scope, receive, send)
