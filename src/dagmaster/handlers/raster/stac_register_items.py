"""Asks for one item in the catalog per COG of a tiled raster."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dagmaster.catalog.documents import derived_item_id
from dagmaster.errors import ParamsInvalid
from dagmaster.handlers.base import Context, Output, Params, handler
from dagmaster.handlers.raster.stac_ensure_collection import StacId
from dagmaster.handlers.raster.stac_register_item import ItemParams
from dagmaster.handlers.raster.stac_register_item import run as register_item


class ItemsParams(Params):
    """The COGs as `raster.create_cog` describes one each, and how to file them all."""

    tile_cogs: list[dict[str, Any]] = Field(max_length=100_000)
    cog_container: str
    validation: dict[str, Any]
    collection_id: StacId
    title: str | None = None
    tags: list[str] | None = None
    dataset_id: str | None = None
    resource_id: str | None = None
    version_id: str | None = None
    access_level: str | None = None


class ItemsOutput(Output):
    """Where the items are found, in the order of the COGs."""

    item_ids: list[str]
    collection_id: str
    count: int


@handler("raster.stac_register_items", isolation="inline")
def run(params: ItemsParams, ctx: Context) -> ItemsOutput:
    """Return one document per COG for publication; ids come from folder and file name, so tiles never collide."""
    item_ids: list[str] = []
    shared = params.model_dump(exclude={"tile_cogs"})
    for number, cog in enumerate(params.tile_cogs):
        blob = cog.get("cog_blob")
        if not isinstance(blob, str):
            raise ParamsInvalid(problem=f"tile_cogs[{number}] does not say cog_blob")
        item_id = derived_item_id(params.collection_id, blob, {})
        if item_id in item_ids:
            raise ParamsInvalid(problem=f"tile_cogs[{number}] names the same file as another: {blob}")
        register_item(ItemParams(cog=cog, cog_blob=blob, item_id=item_id, **shared), ctx)
        item_ids.append(item_id)
    return ItemsOutput(item_ids=item_ids, collection_id=params.collection_id, count=len(item_ids))
