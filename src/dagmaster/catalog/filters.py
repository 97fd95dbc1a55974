"""CQL2 expressions, in their JSON form, as conditions of SQL. Pure: values become parameters, never text.

An unknown property, or one of another type than what it is compared with, makes a comparison unknown, as SQL does:
neither it nor its negation finds the item.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg.sql import Composed

from dagmaster.catalog.base import QueryInvalid
from dagmaster.catalog.pieces import Values, joined, piece

DEPTH_MAX = 32
NODES_MAX = 500
SHAPES_MAX = 4
TEXT_LETTERS_MAX = 4096
COMPARISONS = {
    "=": "equal", "<>": "unequal", "<": "less", "<=": "less_or_equal", ">": "greater", ">=": "greater_or_equal",
}  # fmt: skip
TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
COLUMNS = {"id": "id", "collection": "collection_id", "datetime": "starts_at"}
GEOMETRY = "geometry"
IGNORE_CASE = "casei"
NAME = "filter"
Spatial = Callable[[int], Composed]


def shapes_in(expression: Any) -> list[Any]:
    """The geometries of an expression, in the order in which `condition` numbers them. Errors: QueryInvalid."""
    found: list[Any] = []
    Compiler(Values(), lambda number: piece("true"), found.append).condition(expression)
    return found


def condition(expression: Any, values: Values, spatial: Spatial) -> Composed:
    """The expression as SQL; `spatial(n)` stands for the answer of its n-th geometry. Errors: QueryInvalid."""
    return Compiler(values, spatial, lambda given: None).condition(expression)


class Compiler:
    """Walks one expression."""

    def __init__(self, values: Values, spatial: Spatial, shape: Callable[[Any], None]) -> None:
        self.values = values
        self.spatial = spatial
        self.shape = shape
        self.shapes = 0
        self.nodes = 0

    def condition(self, node: Any, depth: int = 0) -> Composed:
        """What is true, false or unknown."""
        self._count(depth)
        if isinstance(node, bool):
            return piece("true" if node else "false")
        if is_property(node):
            return self._typed(node, "boolean", False)
        op, given = operation(node)
        if op in ("and", "or"):
            if not given:
                raise invalid(f"{op} needs something to join")
            return joined(op, [self.condition(each, depth + 1) for each in given])
        if op == "not":
            return piece("not", value=self.condition(expected(op, given, 1)[0], depth + 1))
        if op in COMPARISONS:
            return self._comparison(op, *expected(op, given, 2))
        if op == "between":
            return self._between(*expected(op, spread(given), 3))
        if op == "in":
            return self._in(*expected(op, given, 2))
        if op == "like":
            return self._like(*expected(op, given, 2))
        if op == "isNull":
            return piece("is_null", value=self._value(*expected(op, given, 1)))
        if op == "s_intersects":
            return self._intersects(*expected(op, given, 2))
        raise invalid(f"{op[:40]!r} is not supported")

    def _comparison(self, op: str, left: Any, right: Any) -> Composed:
        if is_literal(left) and not is_literal(right):
            op, left, right = TURNED[op], right, left
        return self._compared(COMPARISONS[op], left, right)

    def _compared(self, name: str, left: Any, right: Any) -> Composed:
        kind, literal, lower = self._literal(right, is_time(left))
        left, lower_left = cased(left)
        if lower != lower_left:
            raise invalid(f"{IGNORE_CASE} stands on both sides or on none")
        return piece(name, left=self._typed(left, kind, lower), right=literal)

    def _between(self, value: Any, low: Any, high: Any) -> Composed:
        kind, least, lower = self._literal(low, is_time(value))
        other, most, _ = self._literal(high, is_time(value))
        if kind != other or lower:
            raise invalid("both ends of between are of one type")
        return piece("between", left=self._typed(value, kind, False), low=least, high=most)

    def _in(self, value: Any, among: Any) -> Composed:
        if not isinstance(among, list) or not among:
            raise invalid("in needs a list")
        self.nodes += len(among)
        self._count(0)
        return joined("or", [self._compared("equal", value, each) for each in among])

    def _like(self, value: Any, pattern: Any) -> Composed:
        bare, _ = cased(pattern)
        if not isinstance(bare, str):
            raise invalid("like needs a pattern in quotes")
        if (len(bare) - len(bare.rstrip("\\"))) % 2:
            raise invalid("the pattern of like ends in a \\ that takes nothing's meaning away")
        return self._compared("like", value, pattern)

    def _intersects(self, left: Any, right: Any) -> Composed:
        if not is_property(left):
            left, right = right, left
        if not is_property(left) or left["property"] != GEOMETRY or is_property(right):
            raise invalid(f"s_intersects compares the property {GEOMETRY} with a geometry")
        self.shape(right)
        self.shapes += 1
        if self.shapes > SHAPES_MAX:
            raise invalid(f"it has more than {SHAPES_MAX} geometries")
        return self.spatial(self.shapes - 1)

    def _typed(self, node: Any, kind: str, lower: bool) -> Composed:
        """A property as the type of what it is compared with; as nothing when it has another one."""
        if not is_property(node):
            raise invalid("a comparison needs a property on one side and a value on the other")
        name = known_as(node["property"])
        if name in COLUMNS:
            has = "moment" if name == "datetime" else "text"
            if kind != has:
                return piece(f"no_{kind}")
            made = self._value(node) if kind == "moment" else piece("column_as_text", value=self._value(node))
        else:
            made = piece(f"json_as_{kind}", value=self._value(node))
        return piece("lower", value=made) if lower else made

    def _value(self, node: Any) -> Composed:
        if not is_property(node):
            raise invalid("it needs a property here")
        return value_of(node["property"], self.values)

    def _literal(self, node: Any, as_time: bool) -> tuple[str, Composed, bool]:
        """Type and parameter of a value, and whether capital and small letters are alike."""
        node, lower = cased(node)
        if isinstance(node, bool):
            return "boolean", piece("boolean", given=self.values.add(node)), False
        if isinstance(node, (int, float)):
            return "number", piece("number", given=self.values.add(number_of(node))), False
        if isinstance(node, str) and not as_time:
            made = piece("text", given=self.values.add(text_of(node)))
            return "text", piece("lower", value=made) if lower else made, lower
        if isinstance(node, str) or is_literal(node):
            return "moment", piece("moment", given=self.values.add(moment_of(node))), False
        raise invalid("a comparison needs a property on one side and a value on the other")

    def _count(self, depth: int) -> None:
        self.nodes += 1
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            raise invalid(f"it is larger than {NODES_MAX} comparisons, or deeper than {DEPTH_MAX}")


def value_of(name: str, values: Values) -> Composed:
    """A column, or a value of the document: `a`, `properties.a`, `a.b`. Errors: QueryInvalid."""
    name = known_as(name)
    if name in COLUMNS:
        return piece(COLUMNS[name])
    if name == GEOMETRY:
        raise invalid(f"{GEOMETRY} is for s_intersects")
    bare = name.removeprefix("properties.")
    if not bare:
        raise invalid("a property has a name")
    return piece("property", path=values.add(["properties", *text_of(bare).split(".")]))


def known_as(name: str) -> str:
    """`datetime` is a column under either of its names."""
    return "datetime" if name == "properties.datetime" else name


def is_property(node: Any) -> bool:
    return isinstance(node, dict) and set(node) == {"property"} and isinstance(node["property"], str)


def is_time(node: Any) -> bool:
    """Whether text that it is compared with is a time."""
    return is_property(node) and known_as(node["property"]) == "datetime"


def is_literal(node: Any) -> bool:
    bare, _ = cased(node)
    return isinstance(bare, (str, int, float)) or (isinstance(bare, dict) and set(bare) in ({"timestamp"}, {"date"}))


def cased(node: Any) -> tuple[Any, bool]:
    """What stands in `casei(…)`, and whether it did."""
    if isinstance(node, dict) and node.get("op") == IGNORE_CASE:
        return expected(IGNORE_CASE, operation(node)[1], 1)[0], True
    return node, False


def operation(node: Any) -> tuple[str, list[Any]]:
    """Operator and operands. Errors: QueryInvalid."""
    if not isinstance(node, dict) or not isinstance(node.get("op"), str) or not isinstance(node.get("args"), list):
        raise invalid("a condition is an object with op and args")
    return node["op"], node["args"]


def spread(given: list[Any]) -> list[Any]:
    """The three operands of between; drafts of CQL2 had both ends in a list."""
    return [given[0], *given[1]] if len(given) == 2 and isinstance(given[1], list) else given


def expected(op: str, given: list[Any], count: int) -> list[Any]:
    if len(given) != count:
        raise invalid(f"{op} takes {count} operand(s), not {len(given)}")
    return given


def number_of(value: float) -> Decimal:
    made = Decimal(repr(value))
    if not made.is_finite():
        raise invalid("its numbers are finite")
    return made


def text_of(value: str) -> str:
    if len(value) > TEXT_LETTERS_MAX or "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise invalid("it holds text that no item has")
    return value


def moment_of(node: Any) -> datetime:
    """`{"timestamp": …}`, `{"date": …}` (its midnight) or text. Errors: QueryInvalid."""
    text = next(iter(node.values())) if isinstance(node, dict) else node
    try:
        made = datetime.fromisoformat(text)
        return made.replace(tzinfo=UTC) if made.tzinfo is None else made.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as problem:
        raise invalid(f"{str(text)[:40]!r} is no time") from problem


def invalid(problem: str) -> QueryInvalid:
    return QueryInvalid(name=NAME, problem=problem)
