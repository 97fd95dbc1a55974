"""The STAC API over the catalog's port: stac-fastapi's routes and models, our answers (docs/adr/0007-serving.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attr
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from dagmaster import __version__
from dagmaster.catalog.base import Catalog, Found, QueryInvalid
from dagmaster.catalog.documents import STAC_VERSION
from dagmaster.errors import NotFound
from dagmaster.serving import queries
from dagmaster.serving.links import GEOJSON, JSON, Links, link
from dagmaster.serving.queries import Fields, Place
from dagmaster.serving.schemas import QUERYABLES, SCHEMA, SORTABLES, Types, queryables, sortables
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
from stac_fastapi.extensions import (  # noqa: E402
    FieldsExtension,
    FilterExtension,
    SortExtension,
    TokenPaginationExtension,
)
from stac_fastapi.extensions.fields import FieldsConformanceClasses  # noqa: E402
from stac_fastapi.extensions.filter import FilterConformanceClasses  # noqa: E402
from stac_fastapi.extensions.filter.client import AsyncBaseFiltersClient  # noqa: E402
from stac_fastapi.extensions.sort import SortConformanceClasses  # noqa: E402
from stac_fastapi.types.config import ApiSettings  # noqa: E402
from stac_fastapi.types.core import AsyncBaseCoreClient  # noqa: E402
from stac_fastapi.types.search import BaseSearchPostRequest  # noqa: E402

TITLE = "dagmaster"
DESCRIPTION = "What dagmaster published."
LIMIT_DEFAULT = 10
OPENAPI = "application/vnd.oai.openapi+json;version=3.0"
SORTING: list[str] = [
    SortConformanceClasses.ITEM_SEARCH_SORT,
    SortConformanceClasses.ITEM_SEARCH_SORTABLES,
    SortConformanceClasses.FEATURES_SORT,
    SortConformanceClasses.FEATURES_SORTABLES,
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
]
CHOOSING: list[str] = [FieldsConformanceClasses.SEARCH, FieldsConformanceClasses.ITEMS]
FILTERING: list[str] = [
    FilterConformanceClasses.FILTER,
    FilterConformanceClasses.SEARCH,
    FilterConformanceClasses.ITEMS,
    FilterConformanceClasses.CQL2_TEXT,
    FilterConformanceClasses.CQL2_JSON,
    FilterConformanceClasses.BASIC_CQL2,
    FilterConformanceClasses.ADVANCED_COMPARISON_OPERATORS,
    FilterConformanceClasses.CASE_INSENSITIVE_COMPARISON,
    FilterConformanceClasses.BASIC_SPATIAL_FUNCTIONS,
    FilterConformanceClasses.BASIC_SPATIAL_FUNCTIONS_PLUS,
]
"""Declared is what tests show to work, and nothing else."""


def create_stac_app(catalog: Catalog) -> FastAPI:
    """The STAC API as an application; its errors are problem documents like everybody's."""
    app = FastAPI(title=f"{TITLE} STAC API", version=__version__, openapi_url="/api", docs_url=None, redoc_url=None)
    answers = Answers(catalog=catalog, landing_page_id=TITLE, title=TITLE, description=DESCRIPTION)
    sorting = SortExtension()
    sorting.conformance_classes = SORTING  # it would take the sortables out again: their routes are ours
    extensions = [
        TokenPaginationExtension(),
        sorting,
        FieldsExtension(conformance_classes=CHOOSING),
        FilterExtension(conformance_classes=FILTERING, client=answers),
    ]
    api = StacApi(
        settings=FixedSettings(
            stac_fastapi_title=TITLE,
            stac_fastapi_description=DESCRIPTION,
            stac_fastapi_version=__version__,
            stac_fastapi_landing_id=TITLE,
        ),
        client=answers,
        extensions=extensions,
        stac_version=STAC_VERSION,
        exceptions={},
        app=app,
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions, base_model=SearchBody),
        items_get_request_model=create_request_model(  # type: ignore[arg-type]  # it says less than it returns
            "ItemsOfCollection", base_model=ItemCollectionUri, extensions=extensions
        ),
        middlewares=[],
    )
    app.add_api_route("/sortables", answers.get_sortables, response_class=Response)
    app.add_api_route("/collections/{collection_id}/sortables", answers.get_sortables, response_class=Response)
    # After stac-fastapi, which installs handlers of its own. The STAC API calls every fault of a request a 400.
    problems.install(api.app, malformed=400, statuses={QueryInvalid: 400})
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
        if "fields" in values and values["fields"] is None:
            raise ValueError("fields must be an object")
        return values


@attr.s(auto_attribs=True, kw_only=True)
class Answers(AsyncBaseCoreClient, AsyncBaseFiltersClient):
    """What the routes of stac-fastapi answer."""

    catalog: Catalog

    # --- the catalog -------------------------------------------------------------------------------

    async def landing_page(self, **kwargs: Any) -> Any:
        links = links_of(kwargs["request"])
        page: dict[str, Any] = dict(self._landing_page(links.root, self.conformance_classes(), []))
        page["links"].append(link("service-desc", f"{links.root}api", OPENAPI, title="OpenAPI description"))
        page["links"] += described(links.root.rstrip("/"))
        page["links"] += [
            link("child", links.collection_url(each["id"]), JSON, title=each.get("title") or each["id"])
            for each in await self.catalog.collections()
        ]
        return answer(page, JSON)

    async def all_collections(self, **kwargs: Any) -> Any:
        links = links_of(kwargs["request"])
        found = [self._described(links, document) for document in await self.catalog.collections()]
        url = f"{links.root}collections"
        own = [link("self", url, JSON), link("root", links.root, JSON), link("parent", links.root, JSON)]
        return answer({"collections": found, "links": own, "numberReturned": len(found)}, JSON)

    async def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        return answer(self._described(links_of(kwargs["request"]), await self._collection(collection_id)), JSON)

    async def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> Any:
        return await self._schema(queryables, collection_id, kwargs["request"])

    async def get_sortables(self, request: Request, collection_id: str | None = None) -> Response:
        """What items may be ordered by."""
        return await self._schema(sortables, collection_id, request)

    # --- items -------------------------------------------------------------------------------------

    async def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        known = queries.storable(collection_id) and queries.storable(item_id)
        document = await self.catalog.get_item(collection_id, item_id) if known else None
        if document is None:
            raise NotFound(noun="item", id=f"{collection_id}/{item_id}", remedy="/stac/search lists what there is.")
        return answer(links_of(kwargs["request"]).item(document), GEOJSON)

    async def item_collection(  # type: ignore[override]  # all of them go on by name
        self, collection_id: str, request: Request, **asked: Any
    ) -> Any:
        await self._collection(collection_id)
        links = links_of(request)
        page = await self._search(asked | {"collections": [collection_id]})
        collection = links.collection_url(collection_id)
        own = [link("collection", collection, JSON), *by_get(request, f"{collection}/items", page)]
        return page_of(page, links, own)

    async def get_search(self, request: Request, **asked: Any) -> Any:  # type: ignore[override]  # the same
        page = await self._search(asked)
        links = links_of(request)
        return page_of(page, links, by_get(request, f"{links.root}search", page))

    async def post_search(self, search_request: BaseSearchPostRequest, **kwargs: Any) -> Any:
        asked = {name: getattr(search_request, name) for name in search_request.model_fields_set}
        page = await self._search(asked)
        links = links_of(kwargs["request"])
        body = search_request.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
        return page_of(page, links, by_post(body, f"{links.root}search", page))

    # --- helpers -----------------------------------------------------------------------------------

    def _described(self, links: Links, document: dict[str, Any]) -> dict[str, Any]:
        made = links.collection(document)
        made["links"] += described(links.collection_url(document["id"]))
        return made

    async def _collection(self, collection_id: str) -> dict[str, Any]:
        document = await self.catalog.get_collection(collection_id) if queries.storable(collection_id) else None
        if document is None:
            raise NotFound(noun="collection", id=collection_id, remedy="/stac/collections lists what there is.")
        return document

    async def _schema(
        self,
        made_of: Callable[[str, Types], dict[str, Any]],
        collection_id: str | None,
        request: Request,
    ) -> Response:
        if collection_id is not None:
            await self._collection(collection_id)
        url = str(request.url.replace(query=""))
        return answer(made_of(url, await self.catalog.properties(collection_id)), SCHEMA)

    async def _search(self, asked: dict[str, Any]) -> Page:
        """One page, and the places of its neighbours. Errors: QueryInvalid."""
        if asked.get("bbox") is not None and asked.get("intersects") is not None:
            raise QueryInvalid(name="intersects", problem="bbox is given too", remedy="Send one of them.")
        limit = min(asked.get("limit") or LIMIT_DEFAULT, queries.LIMIT_MAX)
        since, until = queries.span(asked.get("datetime"))
        place = queries.place_of(asked.get("token"))
        backwards = place is not None and place.backwards
        found = await self.catalog.search(
            collections=queries.names("collections", asked.get("collections")),
            ids=queries.names("ids", asked.get("ids")),
            bbox=queries.box(asked.get("bbox")),
            intersects=queries.geometry(asked.get("intersects")),
            since=since,
            until=until,
            where=queries.expression(asked.get("filter_expr"), asked.get("filter_lang"), asked.get("filter_crs")),
            order=queries.order(asked.get("sortby")),
            after=place.key if place and not backwards else None,
            before=place.key if place and backwards else None,
            limit=limit + 1,
        )
        beyond = len(found) > limit
        found = found[beyond:] if backwards else found[:limit]
        page = Page(found, queries.fields(asked.get("fields")))
        if found and (beyond or backwards):
            page.following = queries.token_of(Place(found[-1].key))
        if found and (beyond if backwards else place is not None):
            page.preceding = queries.token_of(Place(found[0].key, backwards=True))
        return page


@dataclass(slots=True)
class Page:
    """Items, and the tokens of the pages beside."""

    found: list[Found]
    fields: Fields | None
    following: str | None = None
    preceding: str | None = None

    def neighbours(self) -> list[tuple[str, str]]:
        given = [("next", self.following), ("prev", self.preceding)]
        return [(rel, token) for rel, token in given if token]


def links_of(request: Request) -> Links:
    """Links below the address under which the caller reached us."""
    return Links(str(request.base_url).rstrip("/").removesuffix("/stac"))


def described(url: str) -> list[dict[str, Any]]:
    """Where the schemas of the root or of a collection are."""
    return [
        link(QUERYABLES, f"{url}/queryables", SCHEMA, title="Queryables"),
        link(SORTABLES, f"{url}/sortables", SCHEMA, title="Sortables"),
    ]


def page_of(page: Page, links: Links, own: list[dict[str, Any]]) -> Response:
    """Items as a feature collection."""
    items = [links.item(one.document) for one in page.found]
    if page.fields is not None:
        items = [queries.chosen(item, page.fields) for item in items]
    document = {
        "type": "FeatureCollection",
        "features": items,
        "links": [link("root", links.root, JSON), *own],
        "numberReturned": len(items),
    }
    return answer(document, GEOJSON)


def answer(document: dict[str, Any], media_type: str) -> Response:
    return Response(orjson.dumps(document), media_type=media_type)


def by_get(request: Request, url: str, page: Page) -> list[dict[str, Any]]:
    """The address of this page, and of those beside it."""
    asked = parse_qsl(request.url.query, keep_blank_values=True)
    made = [link("self", f"{url}?{urlencode(asked)}" if asked else url, GEOJSON)]
    for rel, token in page.neighbours():
        kept = [(name, value) for name, value in asked if name != "token"]
        made.append(link(rel, f"{url}?{urlencode([*kept, ('token', token)])}", GEOJSON, method="GET"))
    return made


def by_post(body: dict[str, Any], url: str, page: Page) -> list[dict[str, Any]]:
    """The bodies with which to ask for the pages beside this one."""
    return [
        link(rel, url, GEOJSON, method="POST", body=body | {"token": token}, merge=False)
        for rel, token in page.neighbours()
    ]
