"""The handlers that describe a raster for the catalog; they publish nothing themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from catalog.cogs import cog
from catalog.stac_schemas import faults
from dagmaster import handlers
from dagmaster.contract.handlers import Effect
from dagmaster.errors import ParamsInvalid
from dagmaster.handlers.raster.stac_ensure_collection import CollectionParams
from dagmaster.handlers.raster.stac_ensure_collection import run as ensure_collection
from dagmaster.handlers.raster.stac_register_item import ItemOutput, ItemParams
from dagmaster.handlers.raster.stac_register_item import run as register_item
from dagmaster.handlers.raster.stac_register_items import ItemsParams
from dagmaster.handlers.raster.stac_register_items import run as register_items
from dagmaster.storages import open_storage
from dagmaster.storages.base import Storage

BAD_IDS = ["", ".", "..", "-a", "a/b", "a b", "a\n", "ü", "../x", "<b>", "a" * 256]


class Collecting:
    """A context that keeps what a handler asks for."""

    job_id = "019b0000-0000-7000-8000-000000000000"
    node_id = "register_item"
    attempt = 1
    attempt_token = f"{job_id}-4-0-1"

    def __init__(self, folder: Path) -> None:
        self.scratch = self.job_scratch = folder
        self.storage: Storage = open_storage(f"file:{folder}")
        self.effects: list[Effect] = []

    def progress(self, percent: float, message: str = "") -> None: ...

    def cancelled(self) -> bool:
        return False

    def log(self, message: str, **fields: Any) -> None: ...

    def publish(self, effect: Effect) -> None:
        self.effects.append(effect)

    def checkpoint(self, phase: int, data: dict[str, Any]) -> None: ...

    def resume(self) -> tuple[int, dict[str, Any]]:
        return 0, {}


@pytest.fixture
def context(tmp_path: Path) -> Collecting:
    return Collecting(tmp_path)


def item_params(**more: Any) -> ItemParams:
    facts = cog()
    given: dict[str, Any] = {
        "cog": facts,
        "cog_blob": facts["cog_blob"],
        "cog_container": facts["cog_container"],
        "validation": {"source_crs": "EPSG:4326"},
        "collection_id": "ndvi",
    }
    return ItemParams(**given | more)


def test_both_are_light_and_run_inline() -> None:
    for name in ("raster.stac_ensure_collection", "raster.stac_register_item"):
        spec = handlers.load(name).spec()
        assert (spec.queue, spec.isolation) == ("light", "inline")


def test_collection_is_asked_for_and_valid(context: Collecting) -> None:
    params = CollectionParams(
        collection_id="ndvi", title="NDVI", bounds=(10, 50, 11, 51), dataset_id="d", access_level="public"
    )
    output = ensure_collection(params, context)
    (effect,) = context.effects
    assert (effect.kind, effect.body["collection_id"], output.collection_id) == ("stac_collection", "ndvi", "ndvi")
    assert (output.created, output.updated) == (None, None)
    document = effect.body["document"]
    assert (document["id"], document["title"], document["platform:dataset_id"]) == ("ndvi", "NDVI", "d")
    assert document["extent"]["spatial"]["bbox"] == [[10, 50, 11, 51]]
    assert faults(document) == []


def test_item_is_asked_for_and_valid(context: Collecting) -> None:
    output = register_item(item_params(title="NDVI", tags=["green"], dataset_id="d", access_level="public"), context)
    (effect,) = context.effects
    assert output == ItemOutput(item_id="ndvi-cogs-ndvi_analysis", collection_id="ndvi")
    assert (effect.kind, effect.body["collection_id"]) == ("stac_item", "ndvi")
    document = effect.body["document"]
    assert (document["id"], document["collection"]) == (output.item_id, "ndvi")
    assert document["properties"]["platform:dataset_id"] == "d"
    assert document["properties"]["keywords"] == ["green"]
    assert context.job_id in document["properties"]["processing:lineage"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["properties"]["created"])
    assert faults(document) == []


def test_asset_addresses_are_below_the_service_and_quoted(context: Collecting) -> None:
    register_item(item_params(cog_blob="a b/ü#1.tif", cog_container="other"), context)
    assert context.effects[0].body["document"]["assets"]["data"]["href"] == "/assets/other/a%20b/%C3%BC%231.tif"


def test_item_id_of_the_submission_wins(context: Collecting) -> None:
    platform = {"dataset_id": "d", "resource_id": "r", "version_id": "v"}
    assert register_item(item_params(item_id="mine.1", **platform), context).item_id == "mine.1"
    assert register_item(item_params(**platform), context).item_id == "d-r-v"


def test_same_params_give_the_same_document_but_for_the_time(context: Collecting) -> None:
    for _ in range(2):
        register_item(item_params(), context)
    first, second = (effect.body["document"] for effect in context.effects)
    for document in (first, second):
        del document["properties"]["created"], document["properties"]["updated"]
    assert first == second


def test_cog_that_says_too_little_is_refused_by_name(context: Collecting) -> None:
    with pytest.raises(ParamsInvalid, match=r"bounds_4326, .*wkt2"):
        register_item(item_params(cog={"cog_blob": "a.tif"}), context)
    assert context.effects == []


@pytest.mark.parametrize("name", BAD_IDS)
def test_id_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        CollectionParams(collection_id=name)
    with pytest.raises(ValidationError):
        item_params(item_id=name)


@pytest.mark.parametrize("bounds", [(0, -91, 1, 1), (-181, 0, 1, 1), (0, 0, float("nan"), 1), (0, 0, 1, float("inf"))])
def test_bounds_off_the_earth_are_refused(bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValidationError):
        CollectionParams(collection_id="c", bounds=bounds)


def test_tiles_become_one_item_each(context: Collecting) -> None:
    tiles = [cog() | {"cog_blob": f"folder/tile_r0_c{column}.tif"} for column in range(3)]
    params = {
        "tile_cogs": tiles,
        "cog_container": "silver-cogs",
        "validation": {},
        "collection_id": "c",
        "version_id": "v1",
    }
    output = register_items(ItemsParams.model_validate(params), context)
    assert output.count == len(set(output.item_ids)) == 3
    assert [effect.body["document"]["id"] for effect in context.effects] == output.item_ids
    assert not [fault for effect in context.effects for fault in faults(effect.body["document"])]


def test_two_tiles_of_one_name_are_refused(context: Collecting) -> None:
    params = {"tile_cogs": [cog(), cog()], "cog_container": "silver-cogs", "validation": {}, "collection_id": "c"}
    with pytest.raises(ParamsInvalid, match="same file"):
        register_items(ItemsParams.model_validate(params), context)
