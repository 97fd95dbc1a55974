"""The STAC API over the catalog's port: stac-fastapi's routes and models, our answers (docs/adr/0007-serving.md)."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attr
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from dagmaster import __version__
from dagmaster.catalog.base import Catalog, Found
from dagmaster.catalog.documents import STAC_VERSION
from dagmaster.errors import NotFound
from dagmaster.serving import queries
from dagmaster.serving.links import GEOJSON, JSON, Links, link
from dagmaster.serving.queries import QueryInvalid
from dagmaster.web import problems

# stac-fastapi builds default settings while it is imported and complains, on stderr, that they are defaults.
logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)

from stac_fastapi.api.app import StacApi  # noqa: E402  # after its logger was made quiet
from stac_fastapi.api.models import (  # noqa: E402
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions import TokenPaginationExtension  # noqa: E402
from stac_fastapi.types.config import ApiSettings  # noqa: E402
from stac_fastapi.types.core import AsyncBaseCoreClient  # noqa: E402
from stac_fastapi.types.search import BaseSearchPostRequest  # noqa: E402

TITLE = "dagmaster"
DESCRIPTION = "What dagmaster published."
LIMIT_DEFAULT = 10
OPENAPI = "application/vnd.oai.openapi+json;version=3.0"


def create_stac_app(catalog: Catalog) -> FastAPI:
    """The STAC API as an application; its errors are problem documents like everybody's."""
    app = FastAPI(title=f"{TITLE} STAC API", version=__version__, openapi_url="/api", docs_url=None, redoc_url=None)
    paging = TokenPaginationExtension()
    api = StacApi(
        settings=FixedSettings(
            stac_fastapi_title=TITLE,
            stac_fastapi_description=DESCRIPTION,
            stac_fastapi_version=__version__,
            stac_fastapi_landing_id=TITLE,
        ),
        client=Answers(catalog=catalog, landing_page_id=TITLE, title=TITLE, description=DESCRIPTION),
        extensions=[paging],
        stac_version=STAC_VERSION,
        exceptions={},
        app=app,
        search_get_request_model=create_get_request_model([paging]),
        search_post_request_model=create_post_request_model([paging], base_model=SearchBody),
        items_get_request_model=create_request_model(  # type: ignore[arg-type]  # it says less than it returns
            "ItemsOfCollection", base_model=ItemCollectionUri, extensions=[paging]
        ),
        middlewares=[],
    )
    problems.install(api.app)  # after stac-fastapi, which installs handlers of its own
    return app


class FixedSettings(ApiSettings):
    """stac-fastapi's settings, read from nowhere: the environment is read by `dagmaster.settings` alone."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class SearchBody(BaseSearchPostRequest):
    """The body of a search; stac-pydantic's own model falls over a body that is no object."""

    @model_validator(mode="before")
    @classmethod
    def is_an_object(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("the body must be a JSON object")
        return values


@attr.s(auto_attribs=True, kw_only=True)
class Answers(AsyncBaseCoreClient):
    """What the routes of stac-fastapi answer."""

    catalog: Catalog

    async def landing_page(self, **kwargs: Any) -> Any:
        links = links_of(kwargs["request"])
        page: dict[str, Any] = dict(self._landing_page(links.root, self.conformance_classes(), []))
        page["links"].append(link("service-desc", f"{links.root}api", OPENAPI, title="OpenAPI description"))
        page["links"] += [
            link("child", links.collection_url(each["id"]), JSON, title=each.get("title") or each["id"])
            for each in await self.catalog.collections()
        ]
        return answer(page, JSON)

    async def all_collections(self, **kwargs: Any) -> Any:
        links = links_of(kwargs["request"])
        found = [links.collection(document) for document in await self.catalog.collections()]
        url = f"{links.root}collections"
        own = [link("self", url, JSON), link("root", links.root, JSON), link("parent", links.root, JSON)]
        return answer({"collections": found, "links": own, "numberReturned": len(found)}, JSON)

    async def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        return answer(links_of(kwargs["request"]).collection(await self._collection(collection_id)), JSON)

    async def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        known = queries.storable(collection_id) and queries.storable(item_id)
        document = await self.catalog.get_item(collection_id, item_id) if known else None
        if document is None:
            raise NotFound(noun="item", id=f"{collection_id}/{item_id}", remedy="/stac/search lists what there is.")
        return answer(links_of(kwargs["request"]).item(document), GEOJSON)

    async def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: str | None = None,
        limit: int | None = LIMIT_DEFAULT,
        token: str | None = None,
        **kwargs: Any,
    ) -> Any:
        await self._collection(collection_id)
        request: Request = kwargs["request"]
        links = links_of(request)
        url = f"{links.collection_url(collection_id)}/items"
        asked = {"collections": [collection_id], "bbox": bbox, "datetime": datetime, "limit": limit, "token": token}
        found, further = await self._search(asked)
        own = [link("collection", links.collection_url(collection_id), JSON)]
        return page_of(found, links, [*own, *_next_by_get(request, url, further)])

    async def get_search(self, **kwargs: Any) -> Any:  # type: ignore[override]  # all of them go on by name
        request: Request = kwargs.pop("request")
        found, further = await self._search(kwargs)
        links = links_of(request)
        return page_of(found, links, _next_by_get(request, f"{links.root}search", further))

    async def post_search(self, search_request: BaseSearchPostRequest, **kwargs: Any) -> Any:
        asked = {name: getattr(search_request, name) for name in type(search_request).model_fields}
        found, further = await self._search(asked)
        links = links_of(kwargs["request"])
        url, own = f"{links.root}search", []
        if further:
            body = search_request.model_dump(mode="json", exclude_none=True) | {"token": further}
            own.append(link("next", url, GEOJSON, method="POST", body=body, merge=False))
        return page_of(found, links, own)

    async def _collection(self, collection_id: str) -> dict[str, Any]:
        document = await self.catalog.get_collection(collection_id) if queries.storable(collection_id) else None
        if document is None:
            raise NotFound(noun="collection", id=collection_id, remedy="/stac/collections lists what there is.")
        return document

    async def _search(self, asked: dict[str, Any]) -> tuple[list[Found], str | None]:
        """One page, and the token of the next one. Errors: QueryInvalid."""
        if asked.get("intersects") is not None:
            raise QueryInvalid(name="intersects", problem="this catalog knows boxes only", remedy="Search by bbox.")
        limit = min(asked.get("limit") or LIMIT_DEFAULT, queries.LIMIT_MAX)
        since, until = queries.span(asked.get("datetime"))
        found = await self.catalog.search(
            collections=queries.names("collections", asked.get("collections")),
            ids=queries.names("ids", asked.get("ids")),
            bbox=queries.box(asked.get("bbox")),
            since=since,
            until=until,
            after=queries.key_of(asked.get("token")),
            limit=limit + 1,
        )
        return found[:limit], queries.token_of(found[limit - 1].key) if len(found) > limit else None


def links_of(request: Request) -> Links:
    """Links below the address under which the caller reached us."""
    return Links(str(request.base_url).rstrip("/").removesuffix("/stac"))


def page_of(found: list[Found], links: Links, own: list[dict[str, Any]]) -> Response:
    """Items as a feature collection."""
    items = [links.item(one.document) for one in found]
    document = {
        "type": "FeatureCollection",
        "features": items,
        "links": [link("root", links.root, JSON), *own],
        "numberReturned": len(items),
    }
    return answer(document, GEOJSON)


def answer(document: dict[str, Any], media_type: str) -> Response:
    return Response(orjson.dumps(document), media_type=media_type)


def _next_by_get(request: Request, url: str, further: str | None) -> list[dict[str, Any]]:
    """The address of this page, and of the next one when there is one."""
    asked = parse_qsl(request.url.query, keep_blank_values=True)
    made = [link("self", f"{url}?{urlencode(asked)}" if asked else url, GEOJSON)]
    if further:
        kept = [(name, value) for name, value in asked if name != "token"]
        made.append(link("next", f"{url}?{urlencode([*kept, ('token', further)])}", GEOJSON, method="GET"))
    return made
