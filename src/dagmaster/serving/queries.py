"""What a search may ask, checked; and the tokens of its pages. Pure."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import cql2
import orjson
from stac_fastapi.types.rfc3339 import str_to_interval

from dagmaster.catalog.base import ItemKey, Order, QueryInvalid

LIMIT_MAX = 1000
"""Items on one page; a caller who asks for more gets this many and a link to the next page."""
NAMES_MAX = 1000
TOKEN_LETTERS_MAX = 8192
NEVER_STORED = "\x00"
FILTER_LETTERS_MAX = 16_384
BRACKETS_MAX = 300
NEGATIONS_MAX = 100
MINUSES = re.compile(r"(-\s*){4}")
"""The reader of CQL2 text calls itself for every bracket, `not` and `-`, and would end the process where its stack
ends: at about 1500 of them. The three bounds hold without knowing what is quoted."""
CRS84 = ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "http://www.opengis.net/def/crs/OGC/0/CRS84", "OGC:CRS84")


def box(bbox: Sequence[float] | None) -> tuple[float, float, float, float] | None:
    """West, south, east, north; heights are left out. Errors: QueryInvalid."""
    if bbox is None:
        return None
    values = [float(value) for value in bbox]
    if len(values) not in (4, 6) or not all(map(math.isfinite, values)):
        raise QueryInvalid(name="bbox", problem="it needs 4 or 6 finite numbers")
    half = len(values) // 2
    west, south, east, north = values[0], values[1], values[half], values[half + 1]
    if south > north:
        raise QueryInvalid(name="bbox", problem=f"its south {south:g} lies north of its north {north:g}")
    return west, south, east, north


def span(text: str | None) -> tuple[datetime | None, datetime | None]:
    """Begin and end of what `datetime` names; a single time is both. Raises HTTPException (400)."""
    try:
        found = str_to_interval(text)
        if found is None:
            return None, None
        if isinstance(found, tuple):
            return found
        return found, found
    except (OverflowError, ValueError) as problem:
        raise QueryInvalid(name="datetime", problem=str(problem)) from problem


def names(name: str, given: Sequence[str] | None) -> Sequence[str] | None:
    """Ids to look for. Errors: QueryInvalid."""
    if given and len(given) > NAMES_MAX:
        raise QueryInvalid(name=name, problem=f"{len(given)} of them are more than {NAMES_MAX}")
    for each in given or ():
        if not storable(each):
            raise QueryInvalid(name=name, problem="it holds a character that no id has")
    return given or None


def storable(text: str) -> bool:
    """Whether Postgres could hold the text; nothing else can be an id."""
    return NEVER_STORED not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def geometry(given: Any) -> dict[str, Any] | None:
    """A GeoJSON geometry, as an object, as its text, or as stac-pydantic's model. Errors: QueryInvalid."""
    if given is None:
        return None
    if isinstance(given, str):
        given = _json("intersects", given)
    found = given if isinstance(given, dict) else given.model_dump(mode="json", exclude_none=True)
    if found.get("type") == "Feature":
        raise QueryInvalid(name="intersects", problem="it is a feature", remedy="Send its geometry.")
    return dict(found)


def order(given: Sequence[Any] | None) -> list[Order]:
    """`-datetime`, `+title`, or objects with field and direction. Errors: QueryInvalid."""
    made = []
    for each in given or ():
        if isinstance(each, str):
            # A plus sign in an address means a space, unless the caller wrote it as %2B.
            name, descending = each.lstrip(" +").removeprefix("-"), each.startswith("-")
        else:
            name, descending = each.field, str(getattr(each.direction, "value", each.direction)) == "desc"
        if not name or not storable(name):
            raise QueryInvalid(name="sortby", problem="it names no property")
        made.append(Order(name, descending))
    return made


def expression(text: Any, language: str | None, crs: str | None) -> Any:
    """A CQL2 expression in its JSON form. Errors: QueryInvalid."""
    if text is None:
        return None
    if crs is not None and crs not in CRS84:
        raise QueryInvalid(name="filter-crs", problem="geometries are in CRS84", remedy=f"Say {CRS84[0]}, or nothing.")
    if not isinstance(text, str):
        return text
    if language == "cql2-json" or (language is None and text.lstrip().startswith("{")):
        return _json("filter", text)
    if (
        len(text) > FILTER_LETTERS_MAX
        or text.count("(") > BRACKETS_MAX
        or text.lower().count("not") > NEGATIONS_MAX
        or MINUSES.search(text)
    ):
        raise QueryInvalid(name="filter", problem="it is too large", remedy="Send it as cql2-json in a POST.")
    try:
        return cql2.parse_text(text).to_json()
    except (cql2.ParseError, cql2.ValidationError, ValueError) as problem:
        lines = str(problem).strip().splitlines()
        raise QueryInvalid(name="filter", problem=lines[-1].lstrip(" =") if lines else "it is no CQL2") from problem


@dataclass(frozen=True, slots=True)
class Fields:
    """Which parts of an item a caller wants."""

    include: frozenset[str]
    exclude: frozenset[str]


KEPT = frozenset({"type", "stac_version", "id", "collection"})
"""What every answer keeps, so that a client still knows what it holds."""
USUAL = frozenset({"stac_extensions", "geometry", "bbox", "links", "assets", "properties.datetime"})
"""What an empty `fields` stands for: with what is kept, a valid item."""


def fields(given: Any) -> Fields | None:
    """`properties.title,-geometry`, or an object with include and exclude; what is in both is included."""
    if given is None:
        return None
    if isinstance(given, list):
        words = [each.strip(" +") for each in given]
        include = {word for word in words if word and not word.startswith("-")}
        exclude = {word[1:] for word in words if word.startswith("-")}
    else:
        include, exclude = set(given.include or ()), set(given.exclude or ())
        if "include" in given.model_fields_set and not include:  # said to be empty, which is not unsaid
            include = set(USUAL - exclude)
    if not include and not exclude:
        include = set(USUAL)
    return Fields(frozenset(include), frozenset(exclude - include - KEPT))


def chosen(item: dict[str, Any], wanted: Fields) -> dict[str, Any]:
    """The item with the included parts only, or with all but the excluded ones; or with parts of what is included."""
    if not wanted.include:
        return _without(item, wanted.exclude)
    made: dict[str, Any] = {}
    for path in sorted(wanted.include | KEPT):
        _take(item, _steps(path), made)
    return _without(made, _deeper(wanted))


def _deeper(wanted: Fields) -> frozenset[str]:
    """Exclusions that lie within something included; one that holds something included does not reach it."""
    return frozenset(path for path in wanted.exclude if not any(each.startswith(f"{path}.") for each in wanted.include))


def _steps(path: str) -> list[str]:
    return path.split(".")


def _take(source: dict[str, Any], steps: list[str], into: dict[str, Any]) -> None:
    """Copy what stands at the end of the path, if anything does."""
    name, *further = steps
    if name not in source:
        return
    if not further:
        into[name] = source[name]
    elif isinstance(source[name], dict):
        kept = into.get(name)
        if kept is not source[name]:  # else all of it is taken already
            into[name] = inner = dict(kept) if isinstance(kept, dict) else {}
            _take(source[name], further, inner)
            if not inner:
                del into[name]


def _without(item: dict[str, Any], paths: frozenset[str]) -> dict[str, Any]:
    made = dict(item)
    for path in paths:
        *outer, last = _steps(path)
        place = made
        for step in outer:
            if not isinstance(place.get(step), dict):
                break
            place[step] = dict(place[step])
            place = place[step]
        else:
            place.pop(last, None)
    return made


# --- tokens --------------------------------------------------------------------------------------------

NEXT, PREVIOUS = "next", "prev"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind an item, or before it."""

    key: ItemKey
    backwards: bool = False


def token_of(place: Place) -> str:
    """The place as one word."""
    body = orjson.dumps([*place.key.values, place.key.collection_id, place.key.item_id])
    word = base64.urlsafe_b64encode(body).decode().rstrip("=")
    return f"{PREVIOUS if place.backwards else NEXT}:{word}"


def place_of(token: str | None) -> Place | None:
    """The place that a token names. Errors: QueryInvalid."""
    if token is None:
        return None
    try:
        direction, _, word = token.partition(":")
        if len(token) > TOKEN_LETTERS_MAX or direction not in (NEXT, PREVIOUS):
            raise ValueError
        values = orjson.loads(base64.b64decode(word + "=" * (-len(word) % 4), b"-_", True))
        if not isinstance(values, list) or len(values) < 2:
            raise ValueError
        if not all(isinstance(each, str) and storable(each) for each in values):
            raise ValueError
        return Place(ItemKey(tuple(values[:-2]), values[-2], values[-1]), direction == PREVIOUS)
    except (ValueError, TypeError, binascii.Error) as problem:
        raise QueryInvalid(
            name="token", problem="it is none of ours", remedy="Follow the `next` link of the page before."
        ) from problem


def _json(name: str, text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except (orjson.JSONDecodeError, ValueError) as problem:
        raise QueryInvalid(name=name, problem="it is no JSON") from problem
    if not isinstance(found, dict):
        raise QueryInvalid(name=name, problem="it is no JSON object")
    return found
