"""The extent of a collection is the union of its items, and is widened without looking at all of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from catalog.items import UNKNOWN_TIME, WORLD, Box, collection, fence, item
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.catalog.extent import Reach
from dagmaster.db.connect import Pool, open_pool

BOXES: list[Box] = [
    (-180, -90, 180, 90),
    (170, -20, -170, -10),
    (178, 0, 180, 1),
    (-180, 0, -178, 1),
    (-1, 0, 1, 1),
    (0.1, 5, 0.3, 6),
]


@pytest.fixture
async def pool(database_uri: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_uri)
    yield pool
    await pool.close()


@pytest.fixture
async def catalog(pool: Pool) -> EmbeddedCatalog:
    made = EmbeddedCatalog(pool)
    await made.put_collection(collection(), fence())
    return made


async def extent(catalog: EmbeddedCatalog) -> dict[str, Any]:
    document = await catalog.get_collection("c")
    assert document is not None
    found: dict[str, Any] = document["extent"]
    return found


async def scanned(catalog: EmbeddedCatalog, pool: Pool) -> dict[str, Any]:
    """The extent as a look at all items gives it."""
    async with pool.connection() as conn:
        await conn.execute("UPDATE catalog.collection SET reach = NULL")
    await catalog.put_item("c", item("probe", (0.1, 5, 0.3, 6)), fence())
    return await extent(catalog)


async def forget_one(pool: Pool, item_id: str) -> None:
    """Take an item away behind the catalog's back: a look at all items would notice, a widening does not."""
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM catalog.item WHERE id = %s", [item_id])


async def test_items_put_replaced_and_removed_at_random_leave_the_extent_of_a_scan(
    catalog: EmbeddedCatalog, pool: Pool
) -> None:
    luck = random.Random(11)
    await catalog.put_item("c", item("probe", (0.1, 5, 0.3, 6)), fence())
    for step in range(150):
        name = f"i{luck.randint(0, 12)}"
        if luck.random() < 0.3:
            await catalog.remove_item("c", name, fence())
        else:
            west, south = luck.uniform(-180, 170), luck.uniform(-90, 80)
            box = luck.choice([*BOXES, (west, south, west + luck.uniform(0, 9), south + 5)])
            moment = luck.choice(
                [UNKNOWN_TIME, f"20{luck.randint(10, 30)}-01-01T00:00:00{luck.choice(['Z', '.5+02:00'])}"]
            )
            await catalog.put_item("c", item(name, box, moment), fence())
        if step % 10 == 0:
            widened = await extent(catalog)
            assert widened == await scanned(catalog, pool), step


async def test_item_that_widens_needs_no_look_at_the_others(catalog: EmbeddedCatalog, pool: Pool) -> None:
    await catalog.put_item("c", item("west", (-50, 0, -40, 1)), fence())
    await forget_one(pool, "west")
    await catalog.put_item("c", item("east", (40, 0, 50, 1)), fence())
    await catalog.put_item("c", item("east", (40, 0, 60, 1)), fence())
    await catalog.put_item("c", item("inner", (0, 0, 1, 1)), fence())
    await catalog.put_item("c", item("inner", (0, 0, 0.5, 1)), fence())
    assert (await extent(catalog))["spatial"]["bbox"] == [[-50, 0, 60, 1]]


@pytest.mark.parametrize("smaller", [(40, 0, 45, 1), (41, 0, 50, 1), (40, 0.5, 50, 1), None])
async def test_item_that_the_extent_rests_on_makes_it_smaller(
    catalog: EmbeddedCatalog, pool: Pool, smaller: Box | None
) -> None:
    await catalog.put_item("c", item("middle", (42, 0.7, 43, 0.8)), fence())
    await catalog.put_item("c", item("edge", (40, 0, 50, 1)), fence())
    if smaller is None:
        assert await catalog.remove_item("c", "edge", fence())
    else:
        await catalog.put_item("c", item("edge", smaller), fence())
    wanted = [[42, 0.7, 43, 0.8]] if smaller is None else [list(smaller)]
    assert (await extent(catalog))["spatial"]["bbox"] == wanted


async def test_last_item_that_goes_leaves_the_world(catalog: EmbeddedCatalog) -> None:
    await catalog.put_item("c", item("a", (40, 0, 50, 1), "2020-01-01T00:00:00Z"), fence())
    assert await catalog.remove_item("c", "a", fence())
    assert not await catalog.remove_item("c", "a", fence())
    assert not await catalog.remove_item("unknown", "a", fence())
    assert await extent(catalog) == {"spatial": {"bbox": [WORLD]}, "temporal": {"interval": [[None, None]]}}


async def test_later_jobs_item_is_not_removed_by_an_earlier_job(catalog: EmbeddedCatalog) -> None:
    await catalog.put_item("c", item("a"), fence())
    assert not await catalog.remove_item("c", "a", fence("019a0000-0000-7000-8000-000000000001"))
    assert await catalog.get_item("c", "a") is not None


async def test_extent_that_somebody_else_wrote_is_worked_out_anew(catalog: EmbeddedCatalog, pool: Pool) -> None:
    """A process of the release before widens the extent without telling how."""
    await catalog.put_item("c", item("a", (40, 0, 50, 1)), fence())
    await catalog.put_item("c", item("b", (10, 0, 11, 1)), fence())
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE catalog.collection SET document = jsonb_set(document, '{extent,spatial,bbox}', '[[1, 2, 3, 4]]')"
        )
    await catalog.put_item("c", item("c", (20, 0, 21, 1)), fence())
    assert (await extent(catalog))["spatial"]["bbox"] == [[10, 0, 50, 1]]


def test_union_is_the_same_in_any_order() -> None:
    luck = random.Random(2)
    for _ in range(200):
        reaches = [
            Reach.of(
                west=west, south=south, east=east, north=north, starts_at=f"20{luck.randint(10, 30)}-", ends_at="2040-"
            )
            for west, south, east, north in luck.sample(BOXES, 4)
        ]
        unions = []
        for _ in range(3):
            luck.shuffle(reaches)
            union = reaches[0]
            for each in reaches[1:]:
                union = union.widened(each)
            unions.append(union.extent())
        assert unions[0] == unions[1] == unions[2]
