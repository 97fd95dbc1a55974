"""Asks for a collection in the catalog."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from dagmaster.catalog.documents import ID_LETTERS_MAX, collection_document
from dagmaster.contract.handlers import Effect
from dagmaster.handlers.base import Context, Output, Params, handler

StacId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=ID_LETTERS_MAX)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]


class CollectionParams(Params):
    """What is known of the collection. `bounds` as west, south, east, north; west > east crosses longitude 180.

    `grid_dimensions` and `is_tiled` are taken for workflows of the predecessor; the document says nothing of them.
    """

    collection_id: StacId
    title: str | None = None
    bounds: tuple[Longitude, Latitude, Longitude, Latitude] | None = None
    grid_dimensions: dict[str, int] | None = None
    is_tiled: bool | None = None
    dataset_id: str | None = None
    access_level: str | None = None


class CollectionOutput(Output):
    """The collection. Whether it was new shows when it is published, not before."""

    collection_id: str
    created: bool | None = None
    updated: bool | None = None


@handler("raster.stac_ensure_collection", isolation="inline")
def run(params: CollectionParams, ctx: Context) -> CollectionOutput:
    """Return the collection's document for publication; an existing one keeps what people edited."""
    platform = {"dataset_id": params.dataset_id, "access_level": params.access_level}
    document = collection_document(params.collection_id, title=params.title, bounds=params.bounds, platform=platform)
    ctx.publish(Effect(kind="stac_collection", body={"collection_id": params.collection_id, "document": document}))
    return CollectionOutput(collection_id=params.collection_id)
