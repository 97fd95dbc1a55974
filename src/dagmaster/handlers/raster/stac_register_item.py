"""Asks for an item in the catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from dagmaster.catalog.documents import COG_FACTS, derived_item_id, item_document
from dagmaster.contract.handlers import Effect
from dagmaster.errors import ParamsInvalid
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
    if missing := sorted(COG_FACTS - params.cog.keys()):
        raise ParamsInvalid(problem=f"`cog` does not say {', '.join(missing)}; give the output of raster.create_cog")
    names = ("dataset_id", "resource_id", "version_id", "access_level")
    platform = {name: getattr(params, name) for name in names}
    item_id = params.item_id or derived_item_id(params.collection_id, params.cog_blob, platform)
    document = item_document(
        item_id,
        params.collection_id,
        params.cog | {"cog_blob": params.cog_blob, "cog_container": params.cog_container},
        href_for=asset_href,
        now=datetime.now(UTC).replace(microsecond=0),
        title=params.title,
        tags=params.tags,
        platform=platform,
        lineage=lineage(params, ctx.job_id),
    )
    ctx.publish(Effect(kind="stac_item", body={"collection_id": params.collection_id, "document": document}))
    return ItemOutput(item_id=item_id, collection_id=params.collection_id)


def lineage(params: ItemParams, job_id: str) -> str:
    """One line about where the COG came from."""
    facts = [("raster", params.cog.get("raster_type")), ("tier", params.cog.get("tier"))]
    facts += [("from", params.validation.get("source_crs")), ("to", params.cog.get("crs"))]
    return ", ".join([f"COG made by dagmaster job {job_id}", *(f"{name} {value}" for name, value in facts if value)])


def asset_href(container: str, path: str) -> str:
    """The address of a published object below the service's own; it is made absolute when it is served."""
    return f"/assets/{container}/{quote(path)}"
