"""Asks for an item in the catalog."""

from __future__ import annotations

from typing import Any

from dagmaster.catalog.documents import derived_item_id, item_document
from dagmaster.contract.handlers import Effect
from dagmaster.handlers.base import Context, Output, Params, handler
from dagmaster.handlers.raster.stac_ensure_collection import StacId


class ItemParams(Params):
    """The COG as `raster.create_cog` described it, and how to file it."""

    cog: dict[str, Any]
    cog_blob: str
    cog_container: str
    validation: dict[str, Any]
    collection_id: StacId
    item_id: StacId | None = None
    title: str | None = None
    tags: list[str] | None = None
    dataset_id: str | None = None
    resource_id: str | None = None
    version_id: str | None = None
    access_level: str | None = None


class ItemOutput(Output):
    """Where the item is found."""

    item_id: str
    collection_id: str
    viewer_url: str | None = None
    tilejson_url: str | None = None


@handler("raster.stac_register_item", isolation="inline")
def run(params: ItemParams, ctx: Context) -> ItemOutput:
    """Return the item's document for publication; the same item again replaces it."""
    item_id = params.item_id or derived_item_id(params.collection_id, params.cog_blob)
    names = ("dataset_id", "resource_id", "version_id", "access_level")
    document = item_document(
        item_id,
        params.collection_id,
        params.cog,
        href_for=asset_href,
        title=params.title,
        tags=params.tags,
        platform={name: getattr(params, name) for name in names},
        lineage=f"raster_ingest job {ctx.job_id}: {params.validation['raster_type']['type']} raster, tier {params.cog['tier']}",
    )
    ctx.publish(Effect(kind="stac_item", body={"collection_id": params.collection_id, "document": document}))
    return ItemOutput(item_id=item_id, collection_id=params.collection_id)


def asset_href(container: str, path: str) -> str:
    """The address of a published object below the service's own; it is made absolute when it is served."""
    return f"/assets/{container}/{path}"
