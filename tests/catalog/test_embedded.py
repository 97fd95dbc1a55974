"""The embedded catalog against a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from catalog.items import JOB, UNKNOWN_TIME, WORLD, Box, collection, fence, item
from dagmaster.catalog.base import Catalog, Found
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.db.connect import Pool, open_pool
from dagmaster.errors import CatalogInvalid

OLD_JOB = "019a0000-0000-7000-8000-000000000001"
NEW_JOB = JOB


def ids(found: list[Found]) -> list[str]:
    return sorted(one.key.item_id for one in found)


@pytest.fixture
async def pool(database_uri: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_uri)
    yield pool
    await pool.close()


@pytest.fixture
async def catalog(pool: Pool) -> Catalog:
    made = EmbeddedCatalog(pool)
    await made.put_collection(collection(), fence())
    return made


async def extent(catalog: Catalog) -> tuple[list[float], list[str | None]]:
    document = await catalog.get_collection("c")
    assert document is not None
    return document["extent"]["spatial"]["bbox"][0], document["extent"]["temporal"]["interval"][0]


# --- collections ---------------------------------------------------------------------------------------


async def test_collections_are_listed_by_id(catalog: Catalog) -> None:
    for name in ("b", "d", "a"):
        await catalog.put_collection(collection(name), fence())
    assert [document["id"] for document in await catalog.collections()] == ["a", "b", "c", "d"]
    assert await catalog.get_collection("unknown") is None


async def test_what_people_edited_in_a_collection_stays(catalog: Catalog, pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            """UPDATE catalog.collection SET document = document || '{"title": "Mine", "description": "Also mine"}'"""
        )
    await catalog.put_collection(collection(title="Again", description="Again", keywords=["new"]), fence())
    document = await catalog.get_collection("c")
    assert document is not None
    assert (document["title"], document["description"], document["keywords"]) == ("Mine", "Also mine", ["new"])


async def test_collection_made_by_many_at_once_is_one(catalog: Catalog) -> None:
    await asyncio.gather(*(catalog.put_collection(collection("many"), fence(ordinal=n)) for n in range(20)))
    assert [document["id"] for document in await catalog.collections()] == ["c", "many"]


async def test_collection_without_items_keeps_its_first_extent(catalog: Catalog) -> None:
    assert await extent(catalog) == (WORLD, [None, None])


# --- the extent ----------------------------------------------------------------------------------------


async def test_extent_is_the_union_of_the_items_and_survives_another_put(catalog: Catalog) -> None:
    await catalog.put_item("c", item("a", (10, 50, 11, 51), "2020-01-01T00:00:00Z"), fence())
    await catalog.put_item(
        "c",
        item("b", (-5, 48, 2, 52), None, start_datetime="2021-06-01T00:00:00.25Z", end_datetime="2021-07-01T00:00:00Z"),
        fence(),
    )
    wanted: tuple[list[float], list[str | None]] = ([-5, 48, 11, 52], ["2020-01-01T00:00:00Z", "2021-07-01T00:00:00Z"])
    assert await extent(catalog) == wanted
    await catalog.put_collection(collection(), fence())
    assert await extent(catalog) == wanted


async def test_unknown_time_is_no_part_of_the_interval(catalog: Catalog) -> None:
    await catalog.put_item("c", item("a"), fence())
    assert (await extent(catalog))[1] == [None, None]
    await catalog.put_item("c", item("b", moment="2020-01-01T00:00:00.5Z"), fence())
    assert (await extent(catalog))[1] == ["2020-01-01T00:00:00.500000Z", "2020-01-01T00:00:00.500000Z"]


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        ([(170, -20, -170, -10)], [170, -20, -170, -10]),
        ([(170, -20, -170, -10), (160, -5, 165, 0)], [160, -20, -170, 0]),
        ([(170, -20, -170, -10), (-160, -5, -155, 0)], [170, -20, -155, 0]),
        ([(178, 0, 180, 1), (-180, 0, -178, 1)], [178, 0, -178, 1]),
        ([(170, -20, -170, -10), (-1, 0, 1, 1)], [-180, -20, 180, 1]),
        ([(-180, -90, 180, 90), (170, -20, -170, -10)], WORLD),
        ([(-10.3, 0, -9.7, 1), (20.1, 0, 20.2, 1)], [-10.3, 0, 20.2, 1]),
    ],
)
async def test_extent_over_the_antimeridian_holds_every_item(
    catalog: Catalog, boxes: list[Box], wanted: list[float]
) -> None:
    for number, box in enumerate(boxes):
        await catalog.put_item("c", item(str(number), box), fence())
    assert (await extent(catalog))[0] == wanted


async def test_items_put_at_once_are_all_in_the_extent(catalog: Catalog) -> None:
    boxes: list[Box] = [(n, n, n + 1, n + 1) for n in range(24)]
    await asyncio.gather(*(catalog.put_item("c", item(str(box[0]), box), fence()) for box in boxes))
    assert (await extent(catalog))[0] == [0, 0, 24, 24]


# --- items ---------------------------------------------------------------------------------------------


async def test_item_is_put_once_and_replaced_by_the_same_attempt(catalog: Catalog) -> None:
    await catalog.put_item("c", item(note="first"), fence())
    await catalog.put_item("c", item(note="second"), fence())
    document = await catalog.get_item("c", "i")
    assert document is not None
    assert document["properties"]["note"] == "second"
    assert len(await catalog.search()) == 1
    assert await catalog.get_item("c", "unknown") is None


async def test_item_keeps_the_time_when_it_was_first_made(catalog: Catalog) -> None:
    await catalog.put_item("c", item("bare"), fence())
    for bare in ("2020", None, "2022"):
        await catalog.put_item("c", item("i", created=bare, updated=bare), fence())
        await catalog.put_item("c", item("bare", note="again"), fence())
    document, unsaid = await catalog.get_item("c", "i"), await catalog.get_item("c", "bare")
    assert document is not None
    assert unsaid is not None
    assert (document["properties"]["created"], document["properties"]["updated"]) == ("2020", "2022")
    assert "created" not in unsaid["properties"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (fence(OLD_JOB), fence(NEW_JOB)),
        (fence(OLD_JOB, ordinal=9), fence(NEW_JOB, ordinal=1)),
    ],
)
async def test_an_older_job_never_replaces_a_newer_ones_item(catalog: Catalog, older: str, newer: str) -> None:
    await catalog.put_item("c", item(note="older"), older)
    await catalog.put_item("c", item(note="newer"), newer)
    await catalog.put_item("c", item(note="older again"), older)
    document = await catalog.get_item("c", "i")
    assert document is not None
    assert document["properties"]["note"] == "newer"


@pytest.mark.parametrize(
    ("collection_id", "document"),
    [
        ("unknown", item()),
        ("c", item(moment=None)),
        ("c", {"id": "i", "properties": {"datetime": UNKNOWN_TIME}}),
    ],
)
async def test_item_without_collection_time_or_box_is_refused(
    catalog: Catalog, collection_id: str, document: dict[str, Any]
) -> None:
    with pytest.raises(CatalogInvalid):
        await catalog.put_item(collection_id, document, fence())
    assert await catalog.search() == []


async def test_box_with_heights_is_read(catalog: Catalog) -> None:
    await catalog.put_item("c", {**item(), "bbox": [10, 50, -100, 11, 51, 9000]}, fence())
    assert (await extent(catalog))[0] == [10, 50, 11, 51]


# --- search --------------------------------------------------------------------------------------------


async def test_search_by_collection_and_id(catalog: Catalog) -> None:
    await catalog.put_collection(collection("d"), fence())
    await catalog.put_item("c", item("one"), fence())
    await catalog.put_item("d", item("one"), fence())
    await catalog.put_item("d", item("two"), fence())
    assert ids(await catalog.search(collections=["d"])) == ["one", "two"]
    assert [one.key.collection_id for one in await catalog.search(collections=["c", "d"], ids=["one"])] == ["d", "c"]
    assert await catalog.search(collections=["unknown"]) == []


PLACES: dict[str, Box] = {
    "alps": (6, 45, 15, 48),
    "fiji": (176, -20, -178, -15),
    "samoa": (-173, -15, -171, -13),
    "chukotka": (170, 60, 180, 70),
    "world": (-180, -90, 180, 90),
}


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((10, 46, 11, 47), ["alps", "world"]),
        ((0, 0, 1, 1), ["world"]),
        ((175, -30, 179, 0), ["fiji", "world"]),
        ((-179.5, -30, -179, 0), ["fiji", "world"]),
        ((-177, -30, -170, 0), ["samoa", "world"]),
        ((177, -30, -172, 0), ["fiji", "samoa", "world"]),
        ((175, 50, -170, 80), ["chukotka", "world"]),
        ((179, -30, 15, 80), ["alps", "chukotka", "fiji", "samoa", "world"]),
        ((15, 40, 16, 45), ["alps", "world"]),
    ],
)
async def test_search_by_box_also_over_the_antimeridian(catalog: Catalog, box: Box, wanted: list[str]) -> None:
    for name, place in PLACES.items():
        await catalog.put_item("c", item(name, place), fence())
    assert ids(await catalog.search(bbox=box)) == wanted


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (2020, None, ["moment", "span"]),
        (2022, None, ["span"]),
        (None, 2019, ["span", "unknown"]),
        (2021, 2021, ["moment", "span"]),
        (2024, 2025, []),
    ],
)
async def test_search_by_time_takes_what_overlaps(
    catalog: Catalog, since: int | None, until: int | None, wanted: list[str]
) -> None:
    await catalog.put_item("c", item("unknown"), fence())
    await catalog.put_item("c", item("moment", moment="2021-01-01T00:00:00Z"), fence())
    span: dict[str, Any] = {"start_datetime": "2018-01-01T00:00:00Z", "end_datetime": "2023-01-01T00:00:00Z"}
    await catalog.put_item("c", item("span", moment=None, **span), fence())
    found = await catalog.search(since=year(since) if since else None, until=year(until) if until else None)
    assert ids(found) == wanted


def year(number: int) -> datetime:
    return datetime(number, 1, 1, tzinfo=UTC)


async def test_pages_hold_every_item_once_newest_first(catalog: Catalog) -> None:
    """Many items share a time, and some have none: the place in the order stays unambiguous."""
    await catalog.put_collection(collection("d"), fence())
    for number in range(25):
        moment = UNKNOWN_TIME if number % 5 == 0 else (year(2020) + timedelta(days=number % 3)).isoformat()
        await catalog.put_item("cd"[number % 2], item(f"item-{number}", moment=moment), fence())
    seen: list[Found] = []
    while page := await catalog.search(limit=4, after=seen[-1].key if seen else None):
        seen.extend(page)
    assert len(seen) == len({(one.key.collection_id, one.key.item_id) for one in seen}) == 25
    moments = [one.key.values for one in seen]
    assert moments == sorted(moments, reverse=True)
    assert all(one.document["id"] == one.key.item_id for one in seen)


async def test_unknown_time_is_read_where_the_server_stands_west_of_greenwich(database_uri: str) -> None:
    mark = "&" if "?" in database_uri else "?"
    pool = await open_pool(f"{database_uri}{mark}options=-c%20timezone%3DAmerica/New_York")
    try:
        catalog = EmbeddedCatalog(pool)
        await catalog.put_collection(collection(), fence())
        await catalog.put_item("c", item("a"), fence())
        await catalog.put_item("c", item("b", moment="2020-01-01T00:00:00Z"), fence())
        newest, oldest = await catalog.search()
        assert (newest.key.values, oldest.key.values) == (("2020-01-01 00:00:00",), ("0001-01-01 00:00:00",))
        assert await catalog.search(after=newest.key) == [oldest]
    finally:
        await pool.close()
