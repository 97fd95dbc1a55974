"""What a search may ask, checked; and the tokens of its pages. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from stac_fastapi.types.rfc3339 import str_to_interval

from dagmaster.catalog.base import ItemKey
from dagmaster.errors import Refused

LIMIT_MAX = 1000
"""Items on one page; a caller who asks for more gets this many and a link to the next page."""
NAMES_MAX = 1000
TOKEN_LETTERS_MAX = 2048
NEVER_STORED = "\x00"


class QueryInvalid(Refused):
    """`{name}` cannot be searched by: {problem}."""

    code = "QUERY_INVALID"
    explanation = "A search takes collections, ids, bbox, datetime, limit and token, as the STAC API describes them."


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


def token_of(key: ItemKey) -> str:
    """The place behind which the next page begins, as one word."""
    body = orjson.dumps([key.starts_at.astimezone(UTC).isoformat(), key.collection_id, key.item_id])
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def key_of(token: str | None) -> ItemKey | None:
    """The place that a token names. Errors: QueryInvalid."""
    if token is None:
        return None
    try:
        if len(token) > TOKEN_LETTERS_MAX:
            raise ValueError
        moment, collection_id, item_id = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), b"-_", True))
        if not isinstance(collection_id, str) or not isinstance(item_id, str):
            raise ValueError
        key = ItemKey(datetime.fromisoformat(moment), collection_id, item_id)
        if key.starts_at.utcoffset() is None or not storable(collection_id) or not storable(item_id):
            raise ValueError
        return key
    except (ValueError, TypeError, binascii.Error) as problem:
        raise QueryInvalid(
            name="token", problem="it is none of ours", remedy="Follow the `next` link of the page before."
        ) from problem
