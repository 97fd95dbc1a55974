"""Pictures of published rasters. This process knows the item and its file; another one draws.

No address, path or option of a caller reaches the drawing process: it gets the place of the file from the catalog and
the storage, and of the query only what was checked here.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlencode

import httpx
import orjson
import structlog
from anyio import to_thread
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import Response

from dagmaster import __version__
from dagmaster.catalog.base import Catalog
from dagmaster.catalog.embedded import box_of
from dagmaster.errors import DagmasterError, FileNotFound, NotFound
from dagmaster.serving.assets import found_in
from dagmaster.serving.links import ASSETS, Links
from dagmaster.serving.queries import storable
from dagmaster.serving.rendering import RenderingInvalid, rendering
from dagmaster.serving.tiler import Tiler, TilerLate, TilerUnavailable
from dagmaster.storages.base import Storage
from dagmaster.web import problems

MATRIX = "WebMercatorQuad"
log = structlog.get_logger("dagmaster.tiles")

ZOOM_MAX = 24
THUMBNAIL_PIXELS = 512
RESCALES_MAX = 3
CACHE = "public, max-age=60"
Box = tuple[float, float, float, float]
Extension = Literal["png", "jpg", "jpeg", "webp"]
MEDIA_TYPES: dict[Extension, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
TILE_PIXELS = 256
MARGIN_PIXELS = 2
"""The box of an item is widened by so much before a tile is said to lie outside of it."""
LATITUDE_MAX = 85.0511287798066
"""Where the square of web mercator ends."""


class RasterUnreadable(DagmasterError):
    """The raster of `{item}` cannot be drawn."""

    code = "RASTER_UNREADABLE"
    remedy = "Publish the item again; the log of `dagmaster up` says what its file lacks."
    explanation = "The published file is damaged, or GDAL found a fault while it read it. Asking again will not help."


def create_tiles_app(catalog: Catalog, storage: Storage, tiler: Tiler) -> FastAPI:
    """`/{collection}/{item}/…`: tiles, TileJSON, a thumbnail, facts."""
    app = FastAPI(title="dagmaster tiles", openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app, statuses={TilerUnavailable: 503, TilerLate: 504, RasterUnreadable: 500})

    async def drawing(
        collection: str,
        item: str,
        bidx: Annotated[list[int] | None, Query(max_length=RESCALES_MAX)] = None,
        rescale: Annotated[list[str] | None, Query(max_length=RESCALES_MAX)] = None,
        colormap_name: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Drawing:
        known = storable(collection) and storable(item)
        document = await catalog.get_item(collection, item) if known else None
        if document is None or not is_raster(document):
            raise NotFound(noun="raster", id=f"{collection}/{item}", remedy="/stac/search lists what there is.")
        container, path = place_of(document)
        try:
            file, info = await to_thread.run_sync(found_in, storage, container, path)
        except FileNotFound as error:
            raise NotFound(noun="file", id=f"{container}/{path}", remedy="Publish the item again.") from error
        query = rendering(document, bidx=bidx or (), rescale=rescale or (), colormap_name=colormap_name)
        return Drawing(tiler, document, file, query, f"{info.modified_at}-{info.size_bytes}")

    @app.get("/{collection}/{item}/tilejson.json")
    async def tilejson(request: Request, wanted: Drawing = Depends(drawing)) -> Response:
        said = orjson.loads((await wanted.ask(f"/{MATRIX}/tilejson.json", rendered=False)).content)
        return await wanted.tilejson(request, said)

    @app.get("/{collection}/{item}/info")
    async def info(wanted: Drawing = Depends(drawing)) -> Response:
        return Response((await wanted.ask("/info", rendered=False)).content, media_type="application/json")

    @app.api_route("/{collection}/{item}/thumbnail.png", methods=["GET", "HEAD"])
    async def thumbnail(request: Request, wanted: Drawing = Depends(drawing)) -> Response:
        return await wanted.picture(request, "/preview.png", MEDIA_TYPES["png"], [("max_size", str(THUMBNAIL_PIXELS))])

    @app.api_route("/{collection}/{item}/{z:int}/{x:int}/{y:int}", methods=["GET", "HEAD"])
    @app.api_route("/{collection}/{item}/{z:int}/{x:int}/{y:int}.{extension}", methods=["GET", "HEAD"])
    async def tile(
        request: Request, z: int, x: int, y: int, extension: Extension = "png", wanted: Drawing = Depends(drawing)
    ) -> Response:
        if z > ZOOM_MAX or x >= 2**z or y >= 2**z or not touches(box_of(wanted.item), z, x, y):
            raise outside(f"{z}/{x}/{y}")
        return await wanted.picture(request, f"/tiles/{MATRIX}/{z}/{x}/{y}.{extension}", MEDIA_TYPES[extension], [])

    return app


class Drawing:
    """One item, its file, and how it is to be drawn."""

    def __init__(self, tiler: Tiler, item: dict[str, Any], file: str, query: list[tuple[str, str]], state: str) -> None:
        self.tiler = tiler
        self.item = item
        self.file = file
        self.query = query
        self.state = state

    async def ask(self, path: str, more: list[tuple[str, str]] | None = None, *, rendered: bool) -> httpx.Response:
        """Errors: NotFound outside of the raster, RenderingInvalid, RasterUnreadable, and the tiler's."""
        query = [("url", self.file), *(self.query if rendered else []), *(more or [])]
        answer = await self.tiler.get(path, query)
        if answer.status_code == 404:
            raise outside(path.removeprefix(f"/tiles/{MATRIX}/"))
        if answer.status_code in (400, 422):
            raise RenderingInvalid(name="the picture", problem=self._said(answer))
        if answer.status_code != 200:
            log.error(
                "a picture could not be drawn", path=path, query=query, status=answer.status_code, said=answer.text
            )
            raise RasterUnreadable(item=f"{self.item['collection']}/{self.item['id']}")
        return answer

    async def picture(self, request: Request, path: str, media_type: str, more: list[tuple[str, str]]) -> Response:
        """An image; nothing is drawn for a caller who has it already."""
        words = orjson.dumps([__version__, self.file, self.state, path, self.query, more])
        tag = f'"{hashlib.sha256(words).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": CACHE, "X-Content-Type-Options": "nosniff"}
        if tag in [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        answer = await self.ask(path, more, rendered=True)
        return Response(answer.content, media_type=media_type, headers=headers)

    async def tilejson(self, request: Request, said: dict[str, Any]) -> Response:
        """TileJSON with our name, our addresses and the item's box; of the drawing process it has the zooms.

        Its bounds may not wrap: an item over the antimeridian has the whole breadth of the map.
        """
        links = Links(str(request.base_url).rstrip("/").removesuffix("/tiles"))
        asked = [pair for pair in request.query_params.multi_items() if pair[0] in ("bidx", "rescale", "colormap_name")]
        tiles = links.tiles_url(self.item["collection"], self.item["id"]) + "/{z}/{x}/{y}.png"
        west, south, east, north = within_the_map(box_of(self.item))
        middle = (west + (east - west) % 360 / 2 + 180) % 360 - 180 if east < west else (west + east) / 2
        maxzoom = max(said["maxzoom"], own_zoom(self.item))
        document = {
            "tilejson": "3.0.0",
            "name": self.item["properties"].get("title") or self.item["id"],
            "scheme": "xyz",
            "tiles": [f"{tiles}?{urlencode(asked)}" if asked else tiles],
            "bounds": [west, south, east, north] if west <= east else [-180.0, south, 180.0, north],
            "center": [middle, (south + north) / 2, min(said["minzoom"], maxzoom)],
            "minzoom": min(said["minzoom"], maxzoom),
            "maxzoom": maxzoom,
        }
        return Response(orjson.dumps(document), media_type="application/json")

    def _said(self, answer: httpx.Response) -> str:
        """What the drawing process found wrong, without any path of ours."""
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = ""
        text = "; ".join(str(each.get("msg")) for each in detail) if isinstance(detail, list) else str(detail)
        return "it was refused" if not text or self.file in text else text[:300]


def is_raster(item: dict[str, Any]) -> bool:
    """Whether its data is a file of ours that can be drawn."""
    data = item.get("assets", {}).get("data", {})
    return str(data.get("href", "")).startswith(ASSETS) and str(data.get("type", "")).startswith("image/tiff")


def place_of(item: dict[str, Any]) -> tuple[str, str]:
    """Container and path of its data."""
    container, _, path = unquote(item["assets"]["data"]["href"].removeprefix(ASSETS)).partition("/")
    return container, path


def own_zoom(item: dict[str, Any]) -> int:
    """The zoom at which a pixel of the map is one of the file, by longitude.

    rio-tiler measures it by warping the whole raster, which makes it far too coarse for one that reaches the poles.
    """
    west, _, east, _ = box_of(item)
    columns = (item["properties"].get("proj:shape") or [0, 0])[1]
    degrees = (east - west) % 360 or 360
    return max(0, min(ZOOM_MAX, math.ceil(math.log2(max(1.0, 360 / degrees * columns / TILE_PIXELS)))))


def within_the_map(box: Box) -> Box:
    """The part of a box that web mercator can show."""
    west, south, east, north = box
    south, north = (max(-LATITUDE_MAX, min(LATITUDE_MAX, latitude)) for latitude in (south, north))
    return west, south, east, north


def touches(box: Box, z: int, x: int, y: int) -> bool:
    """Whether a tile may show something of a box, which may cross the antimeridian (west > east)."""
    west, south, east, north = within_the_map(box)
    tiles = 2**z
    margin = MARGIN_PIXELS / TILE_PIXELS
    top, bottom = _row(north, tiles), _row(south, tiles)
    if not (top - margin < y + 1 and bottom + margin > y):
        return False
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    columns = [((left + 180) / 360 * tiles, (right + 180) / 360 * tiles) for left, right in spans]
    return any(left - margin < x + 1 and right + margin > x for left, right in columns)


def _row(latitude: float, tiles: int) -> float:
    """The row of tiles, with its fraction, in which a latitude lies."""
    return (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2 * tiles


def outside(place: str) -> NotFound:
    return NotFound(noun="tile", id=place, remedy="The TileJSON says where there is one.")
