"""One search of the embedded catalog as one statement for one page. Pure.

Geometries are no matter of plain Postgres. A statement finds what they may match by boxes and says, for each
combination of their answers, whether the item is found then; the caller asks shapely for the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Any

from psycopg.sql import Composed

from dagmaster.catalog.base import ItemKey, Order, QueryInvalid
from dagmaster.catalog.filters import COLUMNS, condition, known_as, value_of
from dagmaster.catalog.pieces import Values, joined, listed, piece

if TYPE_CHECKING:
    from dagmaster.catalog.shapes import Shape

Box = tuple[float, float, float, float]
ORDERS_MAX = 8
SMALL_SQUARE_DEGREES = 650.0
"""A hundredth of the world: items in a smaller box are looked for with the index of boxes."""
TIMES = frozenset({"created", "updated", "start_datetime", "end_datetime", "published", "expires", "unpublished"})
"""Properties that are times by the specification, and may be written in more than one way."""
NEWEST_FIRST = (Order("datetime", descending=True),)


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for."""

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    bbox: Box | None = None
    since: datetime | None = None
    until: datetime | None = None
    where: Any = None
    shapes: Sequence[Shape] = ()
    """Those of `where`, in the order in which it names them."""
    order: Sequence[Order] = NEWEST_FIRST


@dataclass(slots=True)
class Column:
    """One thing that items are ordered by."""

    expression: Composed
    key: Composed
    read_back: str
    descending: bool


@dataclass(slots=True)
class Statement:
    text: Composed
    values: dict[str, Any] = field(default_factory=dict)


def page(search: Search, *, place: ItemKey | None, backwards: bool, limit: int) -> Statement:
    """The statement for the items behind a place, or for those before it, nearest first. Errors: QueryInvalid."""
    values = Values()
    columns = _columns(search.order, values)
    if backwards:
        for column in columns:
            column.descending = not column.descending
    conditions = [*_conditions(search, values)]
    if place is not None:
        conditions.append(_behind(columns, place, values))
    truths = piece("no_truths")
    if search.where is not None:
        answers = [
            (combination, condition(search.where, values, lambda n, c=combination: piece("true" if c[n] else "false")))  # type: ignore[misc]  # mypy does not see the default
            for combination in product((False, True), repeat=len(search.shapes))
        ]
        conditions.append(_possible(answers, search.shapes, values))
        if search.shapes:
            truths = piece("truths", all=listed([answer for _, answer in answers]))
    text = piece(
        "search_page",
        geometry=piece("geometry" if search.shapes else "no_geometry"),
        truths=truths,
        keys=piece("keys", all=listed([column.key for column in columns])),
        conditions=joined("and", conditions) if conditions else piece("true"),
        order=listed([piece(_direction(each.descending), value=each.expression) for each in columns]),
        limit=values.add(limit),
    )
    return Statement(text, values.given)


def _conditions(search: Search, values: Values) -> list[Composed]:
    made = []
    if search.collections is not None:
        made.append(piece("of_collections", given=values.add(list(search.collections))))
    if search.ids is not None:
        made.append(piece("of_ids", given=values.add(list(search.ids))))
    if search.bbox is not None:
        made.append(_in_box(search.bbox, values))
    if search.since is not None:
        made.append(piece("not_before", given=values.add(search.since)))
    if search.until is not None:
        made.append(piece("not_after", given=values.add(search.until)))
    return made


def _possible(answers: list[tuple[tuple[bool, ...], Composed]], shapes: Sequence[Shape], values: Values) -> Composed:
    """What is true for some combination of answers that the boxes allow."""
    boxes = [joined("or", [_in_box(box, values) for box in shape.boxes]) for shape in shapes]
    ways = []
    for combination, answer in answers:
        needed = [box for yes, box in zip(combination, boxes, strict=True) if yes]
        ways.append(joined("and", [*needed, answer]))
    return joined("or", ways[::-1])


def _in_box(box: Box, values: Values) -> Composed:
    names = ("west", "south", "east", "north")
    sides = {name: values.add(float(each)) for name, each in zip(names, box, strict=True)}
    exact = piece("in_box", **sides)
    west, south, east, north = box
    breadth = east - west if west <= east else east - west + 360
    is_small = breadth * (north - south) < SMALL_SQUARE_DEGREES
    return piece("and", left=piece("near_box", **sides), right=exact) if is_small else exact


def _columns(order: Sequence[Order], values: Values) -> list[Column]:
    if len(order) > ORDERS_MAX:
        raise QueryInvalid(name="sortby", problem=f"{len(order)} properties are more than {ORDERS_MAX}")
    made: list[Column] = []
    for each in order:
        made += _column(each, values)
    last = made[-1].descending if made else True
    for name in ("collection_id", "id"):  # so that the order is the same each time
        column = piece("order_text", value=piece(name))
        made.append(Column(column, piece("as_key", value=column), "order_text_value", last))
    return made


def _column(order: Order, values: Values) -> list[Column]:
    name = known_as(order.field)
    if name == "datetime":
        return [Column(piece("order_time"), piece("order_time_key"), "order_time_value", order.descending)]
    if name in COLUMNS:
        column = piece("order_text", value=piece(COLUMNS[name]))
        return [Column(column, piece("as_key", value=column), "order_text_value", order.descending)]
    found = value_of(name, values)
    if name.removeprefix("properties.") in TIMES:
        found = piece("order_moment", value=found)
    missing, value = piece("order_missing", value=found), piece("order_json", value=found)
    return [
        Column(missing, piece("as_key", value=missing), "order_missing_value", False),
        Column(value, piece("as_key", value=value), "order_json_value", order.descending),
    ]


def _behind(columns: list[Column], place: ItemKey, values: Values) -> Composed:
    """What comes after a place in the order. Errors: QueryInvalid."""
    given = [*place.values, place.collection_id, place.item_id]
    if len(given) != len(columns):
        raise QueryInvalid(name="token", problem="it belongs to another order", remedy="Follow the links of a page.")
    right = [piece(column.read_back, given=values.add(text)) for column, text in zip(columns, given, strict=True)]
    left = [column.expression for column in columns]
    directions = {column.descending for column in columns}
    if len(directions) == 1:
        return piece(f"behind_all_{_direction(directions.pop())}", left=listed(left), right=listed(right))
    made = piece(f"behind_last_{_direction(columns[-1].descending)}", left=left[-1], right=right[-1])
    for column, one, other in zip(columns[-2::-1], left[-2::-1], right[-2::-1], strict=True):
        made = piece(f"behind_{_direction(column.descending)}", left=one, right=other, rest=made)
    return made


def _direction(descending: bool) -> str:
    return "descending" if descending else "ascending"
