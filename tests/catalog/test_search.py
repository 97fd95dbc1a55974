"""Searches by geometry, by filter and in any order, against a real Postgres."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import shapely
from shapely.geometry import mapping

from catalog.items import Box, collection, fence, item
from dagmaster.catalog import embedded
from dagmaster.catalog.base import Catalog, Found, Order, QueryInvalid
from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.db.connect import Pool, open_pool

GEOMETRY = {"property": "geometry"}


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


def ids(found: list[Found]) -> list[str]:
    return sorted(one.key.item_id for one in found)


def op(name: str, *args: Any) -> dict[str, Any]:
    return {"op": name, "args": list(args)}


def p(name: str) -> dict[str, str]:
    return {"property": name}


async def pages(catalog: Catalog, limit: int, **asked: Any) -> list[Found]:
    """Everything that a search finds, page by page."""
    seen: list[Found] = []
    while page := await catalog.search(limit=limit, after=seen[-1].key if seen else None, **asked):
        seen += page
    return seen


# --- geometry ------------------------------------------------------------------------------------------


TRIANGLE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [0, 10], [0, 0]]]}


async def test_box_of_a_geometry_is_not_enough(catalog: Catalog) -> None:
    for name, box in (
        ("inside", (1, 1, 2, 2)),
        ("corner", (8, 8, 9, 9)),
        ("touching", (5, 5, 6, 6)),
        ("far", (20, 20, 21, 21)),
    ):
        await catalog.put_item("c", item(name, box), fence())
    assert ids(await catalog.search(bbox=(0, 0, 10, 10))) == ["corner", "inside", "touching"]
    assert ids(await catalog.search(intersects=TRIANGLE)) == ["inside", "touching"]


async def test_geometries_and_boxes_find_what_a_walk_over_all_items_finds(catalog: Catalog) -> None:
    """Random footprints of every type, also over the antimeridian, against shapely on every single item."""
    luck = random.Random(7)
    footprints = {}
    for number in range(120):
        shapes: list[Any] = [
            shapely.Point(luck.uniform(-180, 180), luck.uniform(-80, 80)),
            shapely.Point(luck.uniform(-170, 170), luck.uniform(-60, 60)).buffer(luck.uniform(0.5, 9)),
            shapely.LineString([(luck.uniform(-180, 180), luck.uniform(-80, 80)) for _ in range(3)]),
            shapely.union_all([shapely.box(175, -5, 180, 5), shapely.box(-180, -5, -170, 5)]),
        ]
        made = shapes[number % len(shapes)]
        footprints[f"item-{number}"] = made
        document = item(f"item-{number}", (175, -5, -170, 5) if number % 4 == 3 else made.bounds)
        await catalog.put_item("c", document | {"geometry": mapping(made)}, fence())
    for _ in range(40):
        wanted = luck.choice(
            [
                shapely.Point(luck.uniform(-180, 180), luck.uniform(-80, 80)).buffer(luck.uniform(1, 30)).intersection(shapely.box(-180, -90, 180, 90)),
                shapely.LineString([(luck.uniform(-180, 180), luck.uniform(-80, 80)) for _ in range(4)]),
                shapely.union_all([shapely.box(170, -50, 180, 50), shapely.box(-180, -50, luck.uniform(-179, -100), 50)]),
                shapely.Polygon([(-40, -40), (40, -40), (40, 40), (-40, 40)], [[(-30, -30), (30, -30), (30, 30), (-30, 30)]]),
            ]
        )  # fmt: skip
        expected = sorted(name for name, footprint in footprints.items() if footprint.intersects(wanted))
        assert ids(await pages(catalog, 7, intersects=mapping(wanted))) == expected


async def test_geometry_beyond_180_is_looked_for_at_the_other_side(catalog: Catalog) -> None:
    await catalog.put_item("c", item("fiji", (176, -20, -178, -15)), fence())
    await catalog.put_item("c", item("samoa", (-173, -15, -171, -13)), fence())
    east = {"type": "Polygon", "coordinates": [[[179, -25], [190, -25], [190, 0], [179, 0], [179, -25]]]}
    west = {"type": "Point", "coordinates": [-183, -17]}
    assert ids(await catalog.search(intersects=east)) == ["fiji", "samoa"]
    assert ids(await catalog.search(intersects=west)) == ["fiji"]


async def test_pages_are_exact_where_many_candidates_do_not_intersect(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boxes of 60 items touch the geometry's box; 12 touch the geometry; candidates are fetched by 5."""
    monkeypatch.setattr(embedded, "CANDIDATES", 5)
    wanted = []
    for number in range(60):
        inside = number % 5 == 0
        await catalog.put_item("c", item(f"i-{number:02}", (1, 1, 2, 2) if inside else (8, 8, 9, 9)), fence())
        wanted += [f"i-{number:02}"] if inside else []
    for limit in (1, 4, 12, 50):
        found = await pages(catalog, limit, intersects=TRIANGLE)
        assert [one.key.item_id for one in found] == wanted[::-1], limit
    last = found[-1].key
    before = await catalog.search(intersects=TRIANGLE, before=last, limit=3)
    assert [one.key.item_id for one in before] == ["i-15", "i-10", "i-05"]


async def test_search_that_would_compare_too_much_says_so(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "CANDIDATES", 2)
    monkeypatch.setattr(embedded, "CANDIDATES_MAX", 4)
    for number in range(9):
        await catalog.put_item("c", item(str(number), (8, 8, 9, 9)), fence())
    with pytest.raises(QueryInvalid, match="more than 4 items"):
        await catalog.search(intersects=TRIANGLE, limit=2)


async def test_item_without_a_geometry_intersects_nothing(catalog: Catalog) -> None:
    await catalog.put_item("c", item("none", (1, 1, 2, 2)) | {"geometry": None}, fence())
    await catalog.put_item("c", item("odd", (1, 1, 2, 2)) | {"geometry": {"type": "Nonsense"}}, fence())
    assert await catalog.search(intersects=TRIANGLE) == []


NO_GEOMETRIES: list[dict[str, Any]] = [
        {}, {"type": "Circle"}, {"type": "Point"}, {"type": "Point", "coordinates": []}, {"type": "Point", "coordinates": ["a", 1]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, {"type": "Point", "coordinates": [9000, 0]}, {"type": "Point", "coordinates": [0, 91]},
        {"type": "LineString", "coordinates": [[0, 0]]}, {"type": "GeometryCollection", "geometries": []},
        {"type": "MultiPoint", "coordinates": [[n / 1000, 0] for n in range(30_000)]},
]  # fmt: skip


async def test_geometry_that_is_none_is_refused(catalog: Catalog) -> None:
    for geometry in NO_GEOMETRIES:
        with pytest.raises(QueryInvalid):
            pytest.fail(f"{geometry} found {ids(await catalog.search(intersects=geometry))}")


async def test_bowtie_is_mended_instead_of_failing(catalog: Catalog) -> None:
    await catalog.put_item("c", item("a", (0.5, 0.8, 0.6, 0.9)), fence())
    bowtie = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    assert ids(await catalog.search(intersects=bowtie)) == []
    await catalog.put_item("c", item("b", (0.0, 0.4, 0.2, 0.5)), fence())
    assert ids(await catalog.search(intersects=bowtie)) == ["b"]


# --- filters -------------------------------------------------------------------------------------------


ITEMS: dict[str, dict[str, Any]] = {
    "alps": {"moment": "2020-01-01T00:00:00Z", "bbox": (6, 45, 15, 48), "clouds": 5, "platform": "Sentinel-2a", "ok": True, "eo:bands": [1]},
    "fiji": {"moment": "2021-06-01T12:00:00Z", "bbox": (176, -20, -178, -15), "clouds": 50.5, "platform": "landsat_8", "ok": False, "seen": "2021-06-02T00:00:00+02:00"},
    "samoa": {"moment": "2022-06-01T00:00:00Z", "bbox": (-173, -15, -171, -13), "clouds": "many", "platform": None, "seen": "2021-06-01T23:00:00Z", "a": {"b": 7}},
    "bare": {"moment": "2023-01-01T00:00:00Z", "bbox": (0, 0, 1, 1), "seen": "2021-02-30T00:00:00Z", "it's": "a 'quoted' \"word\" \\ %"},
}  # fmt: skip


@pytest.fixture
async def full(catalog: Catalog) -> Catalog:
    for name, facts in ITEMS.items():
        await catalog.put_item("c", item(name, **facts), fence())
    return catalog


FILTERS: list[tuple[Any, list[str]]] = [
    (op("=", p("clouds"), 5), ["alps"]),
    (op("=", p("properties.clouds"), 5.0), ["alps"]),
    (op("<>", p("clouds"), 5), ["fiji"]),  # neither text nor nothing is a number
    (op("not", op("=", p("clouds"), 5)), ["fiji"]),
    (op(">", 10, p("clouds")), ["alps"]),
    (op(">=", p("clouds"), 50.5), ["fiji"]),
    (op("between", p("clouds"), 5, 50.5), ["alps", "fiji"]),
    (op("between", p("clouds"), [5, 50]), ["alps"]),
    (op("in", p("clouds"), [5, "many", 7]), ["alps", "samoa"]),
    (op("not", op("in", p("id"), ["alps", "fiji"])), ["bare", "samoa"]),
    (op("=", p("platform"), "Sentinel-2a"), ["alps"]),
    (op("=", op("casei", p("platform")), op("casei", "SENTINEL-2A")), ["alps"]),
    (op("like", p("platform"), "%_8"), ["fiji"]),
    (op("like", p("platform"), "landsat\\_8"), ["fiji"]),
    (op("like", op("casei", p("platform")), op("casei", "SENT%")), ["alps"]),
    (op("isNull", p("platform")), ["bare", "samoa"]),
    (op("not", op("isNull", p("platform"))), ["alps", "fiji"]),
    (op("=", p("ok"), True), ["alps"]),
    (p("ok"), ["alps"]),
    (op("<", p("id"), "b"), ["alps"]),
    (op("=", p("collection"), "c"), sorted(ITEMS)),
    (op("=", p("collection"), 5), []),
    (op("=", p("id"), True), []),
    (op(">", p("datetime"), {"timestamp": "2021-06-01T14:00:00+02:00"}), ["bare", "samoa"]),
    (op("<=", p("properties.datetime"), "2021-06-01T12:00:00Z"), ["alps", "fiji"]),
    (op("=", p("datetime"), {"date": "2020-01-01"}), ["alps"]),
    (op("between", p("datetime"), {"date": "2021-01-01"}, {"date": "2022-12-31"}), ["fiji", "samoa"]),
    (op("<", p("seen"), {"timestamp": "2021-06-01T22:30:00Z"}), ["fiji"]),  # 22:00 in UTC; one is no date at all
    (op("=", p("a.b"), 7), ["samoa"]),
    (op("like", p("it's"), "a 'quoted' \"word\" \\\\ \\%"), ["bare"]),
    (op("=", p("eo:bands"), 1), []),
    (op("=", p("nothing"), 1), []),
    (op("and", op("=", p("ok"), True), op("<", p("clouds"), 9)), ["alps"]),
    (op("or", op("=", p("ok"), False), op("isNull", p("ok"))), ["bare", "fiji", "samoa"]),
    (op("and", True, op("not", False)), sorted(ITEMS)),
    (op("s_intersects", GEOMETRY, {"type": "Point", "coordinates": [179, -17]}), ["fiji"]),
    (op("s_intersects", {"bbox": [170, -30, -172, 0]}, GEOMETRY), ["fiji", "samoa"]),
    (op("not", op("s_intersects", GEOMETRY, {"bbox": [170, -30, -172, 0]})), ["alps", "bare"]),
    (op("or", op("s_intersects", GEOMETRY, TRIANGLE), op("=", p("ok"), True)), ["alps", "bare"]),
    (op("or", op("and", op("s_intersects", GEOMETRY, TRIANGLE), op("isNull", p("ok"))),
        op("and", op("not", op("s_intersects", GEOMETRY, {"bbox": [0, 40, 20, 50]})), op("=", p("ok"), False))), ["bare", "fiji"]),
]  # fmt: skip


async def test_filters_find_what_they_say(full: Catalog) -> None:
    found = [(where, ids(await full.search(where=where))) for where, _ in FILTERS]
    assert found == FILTERS


async def test_filter_and_geometry_go_together(full: Catalog) -> None:
    ocean = {"type": "Polygon", "coordinates": [[[160, -30], [200, -30], [200, 0], [160, 0], [160, -30]]]}
    assert ids(await full.search(intersects=ocean)) == ["fiji", "samoa"]
    assert ids(await full.search(intersects=ocean, where=op(">", p("clouds"), 9))) == ["fiji"]
    inside = op("s_intersects", GEOMETRY, {"bbox": [-180, -90, -170, 90]})
    assert ids(await full.search(intersects=ocean, where=op("not", inside))) == []
    assert ids(await full.search(intersects=ocean, where=inside)) == ["fiji", "samoa"]


def nested(depth: int) -> Any:
    made: Any = op("=", p("clouds"), 5)
    for _ in range(depth):
        made = op("not", made)
    return made


REFUSED: list[Any] = [
    {}, [], "x", 5, op("nothing", p("a"), 1), op("=", p("a")), op("=", 1, 2), op("=", p("a"), p("b")), op("=", p("a"), None),
    op("and"), op("in", p("a"), []), op("in", p("a"), "x"), op("like", p("a"), 5), op("like", p("a"), "x\\"), op("between", p("a"), 1, "x"),
    op("=", p("a"), "\x00"), op("=", p("a\x00"), 1), op("=", p("a"), "\ud800"), op("=", p(""), 1), op("isNull", 5), op("isNull", GEOMETRY),
    op("=", p("datetime"), "yesterday"), op("=", p("a"), {"timestamp": "2020-13-01T00:00:00Z"}), op("=", p("a"), {"date": 5}), op("=", p("a"), float("inf")),
    op("=", op("casei", p("a")), "x"), op("=", p("a"), op("casei")), op("+", p("a"), 1), op("=", op("+", p("a"), 1), 2), nested(100),
    op("or", *[op("=", p("a"), n) for n in range(600)]), op("in", p("a"), list(range(600))), op("s_intersects", GEOMETRY, GEOMETRY),
    op("s_intersects", p("a"), TRIANGLE), op("s_intersects", GEOMETRY, {"type": "Circle"}), op("s_intersects", GEOMETRY, {"bbox": [1, 2, 3]}),
    op("s_intersects", GEOMETRY, {"bbox": [0, 5, 1, 1]}), op("and", *[op("s_intersects", GEOMETRY, TRIANGLE)] * 5),
]  # fmt: skip


async def test_filter_that_cannot_be_answered_is_refused(full: Catalog) -> None:
    for where in REFUSED:
        with pytest.raises(QueryInvalid):
            pytest.fail(f"{where} found {ids(await full.search(where=where))}")


async def test_filter_that_takes_too_long_is_stopped(full: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SEARCH_SECONDS_MAX", 0.001)
    for number in range(400):
        await full.put_item("c", item(f"n{number}", note="a" * 4000), fence())
    slow = op("or", *[op("like", p("note"), f"{'%a' * 60}{n}") for n in range(200)])
    with pytest.raises(QueryInvalid, match="longer than"):
        await full.search(where=slow)


# --- order ---------------------------------------------------------------------------------------------


async def test_order_by_a_property_puts_what_has_none_last(catalog: Catalog) -> None:
    for name, value in (("a", 10), ("b", 9.5), ("c", None), ("d", 200), ("e", -1)):
        await catalog.put_item("c", item(name, size=value), fence())
    await catalog.put_item("c", item("f"), fence())
    up = await catalog.search(order=[Order("size"), Order("id")])
    down = await catalog.search(order=[Order("properties.size", descending=True), Order("id")])
    assert "".join(one.key.item_id for one in up) == "ebadcf"
    assert "".join(one.key.item_id for one in down) == "dabecf"


async def test_order_by_a_time_reads_it_as_one(catalog: Catalog) -> None:
    for name, text in (
        ("late", "2020-01-01T01:00:00Z"),
        ("early", "2020-01-01T01:30:00+01:00"),
        ("mid", "2020-01-01T00:30:00.5Z"),
    ):
        await catalog.put_item("c", item(name, created=text), fence())
    found = await catalog.search(order=[Order("properties.created")])
    assert [one.key.item_id for one in found] == ["early", "mid", "late"]


ORDERS: list[tuple[list[Order], Callable[[dict[str, Any]], Any]]] = [
    ([Order("id")], lambda each: each["id"]),
    ([Order("datetime"), Order("id")], lambda each: (each["properties"]["datetime"], each["id"])),
    (
        [Order("group", descending=True), Order("size"), Order("id")],
        lambda each: (-each["properties"]["group"], each["properties"].get("size", 1e9), each["id"]),
    ),
]


@pytest.mark.parametrize(("order", "key"), ORDERS)
async def test_pages_in_any_order_hold_every_item_once_in_both_directions(
    catalog: Catalog, order: list[Order], key: Callable[[dict[str, Any]], Any]
) -> None:
    luck = random.Random(3)
    documents = []
    for number in range(40):
        more: dict[str, Any] = {} if number % 7 == 0 else {"size": luck.choice([1, 2, 0.1, 1 / 3])}
        moment = f"20{luck.randint(10, 15)}-01-01T00:00:00Z"
        documents.append(item(f"i{luck.random()}", moment=moment, group=luck.randint(1, 3), **more))
        await catalog.put_item("c", documents[-1], fence())
    wanted = [each["id"] for each in sorted(documents, key=key)]
    forwards = await pages(catalog, 6, order=order)
    assert [one.key.item_id for one in forwards] == wanted
    backwards: list[Found] = []
    place = forwards[-1].key
    while page := await catalog.search(order=order, before=place, limit=6):
        backwards = page + backwards
        place = page[0].key
    assert [one.key.item_id for one in backwards] == wanted[:-1]


async def test_place_of_another_order_is_refused(catalog: Catalog) -> None:
    for name in ("a", "b"):
        await catalog.put_item("c", item(name, size=1), fence())
    place = (await catalog.search())[0].key
    for order in ([Order("size")], [Order("id"), Order("datetime")]):
        with pytest.raises(QueryInvalid):
            await catalog.search(order=order, after=place)
    with pytest.raises(QueryInvalid):
        await catalog.search(order=[Order(str(n)) for n in range(9)])


# --- what the catalog knows ----------------------------------------------------------------------------


async def test_only_files_of_items_and_collections_are_published(catalog: Catalog) -> None:
    href = "/assets/box/a%20b.tif"
    await catalog.put_item("c", item() | {"assets": {"data": {"href": href}, "odd": {}}}, fence())
    await catalog.put_collection(collection("d", assets={"thumbnail": {"href": "/assets/box/d.png"}}), fence())
    assert await catalog.publishes(href)
    assert await catalog.publishes("/assets/box/d.png")
    assert not await catalog.publishes("/assets/box/other.tif")
    await catalog.remove_item("c", "i", fence())
    assert not await catalog.publishes(href)


async def test_properties_that_are_single_values_are_known(full: Catalog) -> None:
    known = await full.properties("c")
    assert known["clouds"] == ["number", "string"]
    assert known["ok"] == ["boolean"]
    assert "eo:bands" not in known
    assert await full.properties("unknown") == {}


async def test_boxes_are_found_through_their_index(catalog: Catalog, pool: Pool) -> None:
    boxes: list[Box] = [(n % 360 - 180, n % 100 - 50, n % 360 - 179.5, n % 100 - 49.5) for n in range(300)]
    for number, box in enumerate(boxes):
        await catalog.put_item("c", item(str(number), box), fence())
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        await conn.execute("SET LOCAL enable_indexscan = off")
        plan = await conn.execute(
            "EXPLAIN SELECT 1 FROM catalog.item WHERE catalog.box(west, south, east, north) && catalog.box(0, 0, 1, 1)"
        )
        assert "item_by_box" in str(await plan.fetchall())
