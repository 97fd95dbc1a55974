"""What the STAC API declares beyond its core: geometry, order, fields, filters, pages in both directions."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx
import pytest

from dagmaster.serving.queries import BRACKETS_MAX, FILTER_LETTERS_MAX, NEGATIONS_MAX
from serving.conftest import HOST

INSIDE = {"type": "Polygon", "coordinates": [[[15, 45.15], [15.02, 45.15], [15, 45.17], [15, 45.15]]]}
BESIDE = {"type": "Polygon", "coordinates": [[[14, 45], [14.9, 45], [14, 46], [14, 45]]]}


def ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["features"]]


async def both(client: httpx.AsyncClient, asked: dict[str, Any], words: dict[str, str]) -> list[str]:
    """What GET and POST find, which has to be the same."""
    got, posted = await client.get("/stac/search", params=words), await client.post("/stac/search", json=asked)
    assert got.status_code == posted.status_code == 200, (got.text, posted.text)
    assert ids(got.json()) == ids(posted.json())
    return ids(got.json())


# --- intersects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("geometry", "found"), [(INSIDE, ["three", "two", "one"]), (BESIDE, [])])
async def test_geometry_is_searched_by(client: httpx.AsyncClient, geometry: dict[str, Any], found: list[str]) -> None:
    assert await both(client, {"intersects": geometry}, {"intersects": json.dumps(geometry)}) == found


async def test_geometry_and_box_together_are_refused(client: httpx.AsyncClient) -> None:
    words = {"intersects": json.dumps(INSIDE), "bbox": "0,0,1,1"}
    assert (await client.get("/stac/search", params=words)).status_code == 400
    assert (await client.post("/stac/search", json={"intersects": INSIDE, "bbox": [0, 0, 1, 1]})).status_code == 400


async def test_pages_of_a_geometry_are_exact(client: httpx.AsyncClient) -> None:
    seen, following = [], str(httpx.URL(f"{HOST}/stac/search", params={"intersects": json.dumps(INSIDE), "limit": "1"}))
    while following:
        page = (await client.get(following)).json()
        seen += ids(page)
        following = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    assert seen == ["three", "two", "one"]


# --- order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("datetime", ["one", "two", "three"]),
        ("-datetime", ["three", "two", "one"]),
        ("+properties.datetime", ["one", "two", "three"]),
        ("-id", ["two", "three", "one"]),
        ("-collection,+datetime", ["three", "one", "two"]),
        ("properties.nothing,id", ["one", "three", "two"]),
    ],
)
async def test_items_come_in_the_order_asked_for(client: httpx.AsyncClient, words: str, found: list[str]) -> None:
    given = [
        {"field": word.lstrip("+-"), "direction": "desc" if word.startswith("-") else "asc"}
        for word in words.split(",")
    ]
    assert await both(client, {"sortby": given}, {"sortby": words}) == found
    if "+" in words:  # a client that does not write it as %2B
        assert ids((await client.get(f"/stac/search?sortby={words}")).json()) == found


async def test_items_of_a_collection_come_in_order_too(client: httpx.AsyncClient) -> None:
    assert ids((await client.get("/stac/collections/a/items?sortby=datetime")).json()) == ["one", "two"]


# --- pages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["limit=1", "limit=1&sortby=id", "limit=1&sortby=-nothing,id", "limit=2"])
async def test_pages_lead_forth_and_back(client: httpx.AsyncClient, query: str) -> None:
    forth = []
    following = f"{HOST}/stac/search?{query}"
    while following:
        page = (await client.get(following)).json()
        forth.append(ids(page))
        links = {link["rel"]: link["href"] for link in page["links"]}
        following = links.get("next", "")
    assert sorted(each for page_ids in forth for each in page_ids) == ["one", "three", "two"]
    back = [forth[-1]]
    while previous := links.get("prev"):
        page = (await client.get(previous)).json()
        back.append(ids(page))
        links = {link["rel"]: link["href"] for link in page["links"]}
        assert links["next"]
    assert [each for page_ids in back[::-1] for each in page_ids] == [each for page_ids in forth for each in page_ids]


async def test_pages_of_a_post_lead_forth_and_back(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "limit": 1,
        "filter": {"op": "isNull", "args": [{"property": "nothing"}]},
        "sortby": [{"field": "id", "direction": "asc"}],
    }
    first = (await client.post("/stac/search", json=body)).json()
    (following,) = [link for link in first["links"] if link["rel"] == "next"]
    assert following["method"] == "POST"
    assert following["body"] == body | {"token": following["body"]["token"]}
    second = (await client.post(following["href"], json=following["body"])).json()
    (previous,) = [link for link in second["links"] if link["rel"] == "prev"]
    assert ids((await client.post(previous["href"], json=previous["body"])).json()) == ids(first) == ["one"]
    assert "prev" not in [link["rel"] for link in first["links"]]


async def test_token_of_another_order_is_refused(client: httpx.AsyncClient) -> None:
    page = (await client.get("/stac/search?limit=1&sortby=properties.nothing")).json()
    (token,) = [httpx.URL(link["href"]).params["token"] for link in page["links"] if link["rel"] == "next"]
    assert (await client.get(f"/stac/search?sortby=id&token={token}")).status_code == 400
    assert (await client.get(f"/stac/search?token={token}")).status_code == 400


# --- fields --------------------------------------------------------------------------------------------


WHOLE = {
    "type",
    "stac_version",
    "stac_extensions",
    "id",
    "collection",
    "geometry",
    "bbox",
    "links",
    "assets",
    "properties",
}
KEPT = {"type", "stac_version", "id", "collection"}


@pytest.mark.parametrize(
    ("include", "exclude", "top", "properties"),
    [
        ([], [], WHOLE, {"datetime"}),
        (["properties.created"], [], KEPT | {"properties"}, {"created"}),
        (["properties.created", "properties.datetime", "bbox"], [], KEPT | {"properties", "bbox"}, {"created", "datetime"}),
        (["properties.created"], ["properties"], KEPT | {"properties"}, {"created"}),
        (["geometry"], ["geometry"], KEPT | {"geometry"}, None),
        ([], ["properties", "assets", "id"], WHOLE - {"properties", "assets"}, None),
        (["properties.nothing", "nothing"], [], KEPT, None),
    ],
)  # fmt: skip
async def test_answer_holds_the_fields_asked_for(
    client: httpx.AsyncClient, include: list[str], exclude: list[str], top: set[str], properties: set[str] | None
) -> None:
    said = {name: paths for name, paths in (("include", include), ("exclude", exclude)) if paths}
    answers = [await client.post("/stac/search", json={"fields": said})]
    if said:
        words = ",".join([*include, *(f"-{name}" for name in exclude)])
        answers.append(await client.get("/stac/search", params={"fields": words}))
        answers.append(await client.get("/stac/collections/a/items", params={"fields": words}))
    for answer in answers:
        item = answer.json()["features"][0]
        assert set(item) == top
        if properties is not None:
            assert set(item["properties"]) == properties


@pytest.mark.parametrize("nothing", [[], None])
async def test_exclusion_from_the_usual_fields(client: httpx.AsyncClient, nothing: Any) -> None:
    """An `include` that is said to be empty is not one that is not said."""
    said = {"include": nothing, "exclude": ["geometry"]}
    item = (await client.post("/stac/search", json={"fields": said})).json()["features"][0]
    assert set(item) == WHOLE - {"geometry"}
    assert set(item["properties"]) == {"datetime"}


async def test_all_of_properties_but_one(client: httpx.AsyncClient) -> None:
    whole = (await client.get("/stac/collections/a/items/two")).json()
    words = "properties,assets,-properties.created,-assets.thumbnail"
    item = (await client.get(f"/stac/search?ids=two&fields={words}")).json()["features"][0]
    assert set(item["properties"]) == set(whole["properties"]) - {"created"}
    assert set(item["assets"]) == {"data"}
    assert whole == (await client.get("/stac/collections/a/items/two")).json()


# --- filters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("datetime > TIMESTAMP('2020-06-01T00:00:00Z')", ["three"]),
        ("datetime BETWEEN '2019-06-01T00:00:00Z' AND '2020-06-01T00:00:00Z'", ["two"]),
        ("id IN ('one','three') AND NOT collection = 'b'", ["one"]),
        ("CASEI(id) LIKE CASEI('T%')", ["three", "two"]),
        ("\"proj:epsg\" = 32633 AND \"properties.proj:code\" = 'EPSG:32633'" , ["three", "two", "one"]),
        ("title IS NULL", ["three", "two", "one"]),
        ("S_INTERSECTS(geometry, POLYGON((15 45.15, 15.02 45.15, 15 45.17, 15 45.15)))", ["three", "two", "one"]),
        ("S_INTERSECTS(geometry, BBOX(-10, -10, -5, 5)) OR id = 'one'", ["one"]),
        ("id = 'it''s; DROP TABLE catalog.item'", []),
    ],
)  # fmt: skip
async def test_filter_as_text_and_as_json_finds_the_same(
    client: httpx.AsyncClient, text: str, found: list[str]
) -> None:
    got = (await client.get("/stac/search", params={"filter": text, "filter-lang": "cql2-text"})).json()
    assert ids(got) == found
    import cql2

    expression = cql2.parse_text(text).to_json()
    posted = await client.post("/stac/search", json={"filter": expression, "filter-lang": "cql2-json"})
    assert ids(posted.json()) == found
    by_get = {"filter": json.dumps(expression), "filter-lang": "cql2-json"}
    assert ids((await client.get("/stac/search", params=by_get)).json()) == found
    assert ids((await client.get("/stac/collections/a/items", params={"filter": text})).json()) == [
        each for each in found if each != "three"
    ]


@pytest.mark.parametrize(
    "words",
    [
        {"filter": "id ="}, {"filter": "a + 1 = 2"}, {"filter": "a = b"}, {"filter": "T_AFTER(datetime, DATE('2020-01-01'))"}, {"filter": "id = 'a' AND"},
        {"filter": "[]", "filter-lang": "cql2-json"}, {"filter": "{", "filter-lang": "cql2-json"}, {"filter": "id = 'a'", "filter-lang": "cql"},
        {"filter": "id = 'a'", "filter-crs": "EPSG:3857"}, {"filter": "datetime > 'soon'"}, {"filter": "S_INTERSECTS(geometry, POINT(0 95))"},
        {"filter": "S_WITHIN(geometry, POINT(0 5))"}, {"filter": "(" * 301}, {"filter": "NOT " * 101 + "TRUE"}, {"filter": "a = ----1"}, {"filter": "x" * 20_000},
        {"sortby": "-"}, {"sortby": ",".join("abcdefghij")}, {"intersects": "{}"}, {"intersects": '{"type": "Feature", "geometry": null}'},
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    client: httpx.AsyncClient, words: dict[str, str]
) -> None:
    answer = await client.get("/stac/search", params=words)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["message"]


HOSTILE = [
    f"{'(' * BRACKETS_MAX}id = 'a'{')' * BRACKETS_MAX}",
    f"{'NOT ' * NEGATIONS_MAX}TRUE",
    f"{'NOT (' * NEGATIONS_MAX}{'(' * (BRACKETS_MAX - NEGATIONS_MAX)}id = 'a'{')' * BRACKETS_MAX}",
    f"{'casei(' * BRACKETS_MAX}id{')' * BRACKETS_MAX} = 'a'",
    f"{'NOT(casei(' * NEGATIONS_MAX}id{'))' * NEGATIONS_MAX} = 'a'",
    f"id = {'(1+' * BRACKETS_MAX}1{')' * BRACKETS_MAX}",
    "id = 1" + "+1" * ((FILTER_LETTERS_MAX - 6) // 2),
    "id = 1" + "^1" * ((FILTER_LETTERS_MAX - 6) // 2),
    " AND ".join(["id = 'a'"] * (FILTER_LETTERS_MAX // 13)),
    "'" * FILTER_LETTERS_MAX,
    "id = '" + "''(" * BRACKETS_MAX + "'",
]


def test_no_text_that_is_let_through_ends_the_process() -> None:
    """The reader of CQL2 is not written in Python: what overflows its stack would take every job along."""
    program = "import sys, json; from dagmaster.serving.queries import expression\nfor text in json.load(sys.stdin):\n    try: expression(text, None, None)\n    except Exception: pass\nprint('alive')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


# --- what is declared ----------------------------------------------------------------------------------


async def test_declared_classes_are_those_that_work(client: httpx.AsyncClient) -> None:
    """A class is added here with the test that shows it."""
    landing = (await client.get("/stac/")).json()
    classes = (await client.get("/stac/conformance")).json()["conformsTo"]
    assert classes == landing["conformsTo"]
    assert {each.rsplit("/", 1)[-1] for each in classes} == {
        "core", "collections", "ogcapi-features", "item-search", "oas30", "geojson", "item-search#sort", "ogcapi-features#sort", "item-search#sortables",
        "sortables", "item-search#fields", "ogcapi-features#fields", "item-search#filter", "filter", "features-filter", "cql2-text", "cql2-json", "basic-cql2",
        "advanced-comparison-operators", "case-insensitive-comparison", "basic-spatial-functions", "basic-spatial-functions-plus",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["queryables", "sortables"])
async def test_schemas_of_what_can_be_asked(client: httpx.AsyncClient, kind: str) -> None:
    for owner in ("/stac", "/stac/collections/a"):
        answer = await client.get(f"{owner}/{kind}")
        assert answer.headers["content-type"] == "application/schema+json"
        schema = answer.json()
        assert schema["$id"] == f"{HOST}{owner}/{kind}"
        assert schema["$schema"].endswith("2020-12/schema")
        assert schema["properties"]["proj:epsg"]["type"] == "number"
        assert ("geometry" in schema["properties"]) == (kind == "queryables")
        links = (await client.get(f"{owner}/" if owner == "/stac" else owner)).json()["links"]
        assert [link["href"] for link in links if link["rel"].endswith(f"/{kind}")] == [f"{HOST}{owner}/{kind}"]
    assert (await client.get(f"/stac/collections/none/{kind}")).status_code == 404
