"""Workflow files as data: a YAML loader that builds plain JSON values and remembers where each one stands.

It is built on the event stream, not on PyYAML's constructors: nothing is ever instantiated by tag, nothing is
expanded, and every bound is checked before the value behind it is built. Scalars follow the YAML 1.2 core
schema, in which `NO`, `on` and `12:30:00` are text and `010` is ten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from dagmaster.dag.findings import Finding

BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
VALUES_MAX = 10_000
FINDINGS_MAX = 100
SYNTAX_FIX = "mend the syntax here, or just before"
TOO_LARGE_FIX = "let one fan_out make the many children, or split the workflow"
DIGITS_MAX = 100
"""A longer number is a mistake or an attack; no param needs it."""

Path = tuple[str | int, ...]
"""Keys and indexes from the root to a value."""

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a key and its value stand; lines and columns count from 0."""

    key_line: int
    key_column: int
    key_width: int
    line: int
    column: int
    end_line: int
    width: int


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one source line, counted from 1."""

    line: int
    column: int
    width: int
    excerpt: str


@dataclass(slots=True)
class Source:
    """One file as read: its value, and the mark of every value in it."""

    file: str
    lines: list[str]
    data: Any = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def place(self, path: Path, needle: str | None = None, *, on_key: bool = False) -> Place | None:
        """Where the value at `path` stands, or its nearest ancestor; `needle` narrows it to that text within."""
        while path not in self.marks and path:
            path, needle, on_key = path[:-1], None, True
        mark = self.marks.get(path)
        if mark is None:
            return None
        if needle is not None and (found := self._search(mark, needle)) is not None:
            return found
        if on_key and mark.key_width:
            return self.at(mark.key_line, mark.key_column, mark.key_width)
        return self.at(mark.line, mark.column, mark.width)

    def _search(self, mark: Mark, needle: str) -> Place | None:
        for number in range(mark.line, min(mark.end_line + 1, len(self.lines))):
            start = mark.column if number == mark.line else 0
            column = self.lines[number].find(needle, start)
            if column >= 0:
                return self.at(number, column, len(needle))
        return None

    def at(self, line: int, column: int, width: int) -> Place:
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(line + 1, column + 1, max(1, width), text)

    def finding(
        self,
        code: str,
        message: str,
        path: Path = (),
        *,
        needle: str | None = None,
        tail: int | None = None,
        on_key: bool = False,
        severity: Literal["error", "warning"] = "error",
        node: str | None = None,
        why: str | None = None,
        fix: str | None = None,
    ) -> Finding:
        """A finding at a place of this file; `tail` marks only so many characters at the end of a needle."""
        place = self.place(path, needle, on_key=on_key)
        if place is not None and needle is not None and tail is not None and place.width == len(needle):
            place = Place(place.line, place.column + len(needle) - tail, tail, place.excerpt)
        return _placed(self.file, place, severity, code, message, node, why, fix)


def _placed(
    file: str,
    place: Place | None,
    severity: Literal["error", "warning"],
    code: str,
    message: str,
    node: str | None = None,
    why: str | None = None,
    fix: str | None = None,
) -> Finding:
    if place is None:
        return Finding(severity, code, message, file, None, None, node, why, fix)
    return Finding(
        severity, code, message, file, place.line, place.column, node, why, fix, place.excerpt, place.width
    )  # fmt: skip


def read_yaml(text: str, file: str) -> Source:
    """Read one document. All faults are in `findings`; with an error among them `data` is not to be used."""
    source = Source(file, text.splitlines())
    if len(text.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        source.findings.append(too_large(source))
        return source
    try:
        _Builder(source, _events(text)).document()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        place = source.at(mark.line, mark.column, 1) if mark is not None else None
        words = " ".join(part for part in (problem.context, problem.problem) if part)
        source.findings.append(
            _placed(file, place, "error", "YAML_INVALID", f"the file is not YAML: {words}", fix=SYNTAX_FIX)
        )
    except yaml.YAMLError as problem:
        words = " ".join(str(problem).split())
        source.findings.append(source.finding("YAML_INVALID", f"the file is not YAML: {words}", fix=SYNTAX_FIX))
    except _Stop:
        pass
    return source


def too_large(source: Source) -> Finding:
    """The finding for a file of more bytes than are read."""
    return source.finding("YAML_TOO_LARGE", f"the file is larger than {BYTES_MAX} bytes", fix=TOO_LARGE_FIX)


def _events(text: str) -> Iterator[Event]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events: Iterator[Event] = yaml.parse(text, Loader=loader)  # events only: nothing is constructed
    return events


class _Stop(Exception):
    """A bound was met; what was found so far is the answer."""


class _Builder:
    """Turns events into values. Recursion is as deep as the document may be, which is bounded."""

    def __init__(self, source: Source, events: Iterator[Event]) -> None:
        self.source = source
        self.events = events
        self.values = 0

    def document(self) -> None:
        started = False
        for event in self.events:
            if isinstance(event, NodeEvent):
                if started:
                    self.report(event, "YAML_INVALID", "the file holds more than one document", stop=True)
                started = True
                self.source.data = self.value(event, (), None, 1)
        if not started:
            self.source.findings.append(
                self.source.finding("YAML_INVALID", "the file is empty", fix="write a workflow: dagmaster init")
            )

    def value(self, event: NodeEvent, path: Path, key: ScalarEvent | None, depth: int) -> Any:
        self.count(event, depth)
        self.refuse_extras(event)
        if isinstance(event, ScalarEvent):
            self.mark(path, key, event)
            return self.scalar(event)
        if isinstance(event, MappingStartEvent):
            return self.mapping(event, path, key, depth)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(event, path, key, depth)
        return None

    def mapping(self, event: MappingStartEvent, path: Path, key: ScalarEvent | None, depth: int) -> dict[Any, Any]:
        self.mark(path, key, event)
        found: dict[Any, Any] = {}
        while not isinstance(head := next(self.events), MappingEndEvent):
            assert isinstance(head, NodeEvent)
            name = self.key(head, path, depth)
            seen = name in found
            if seen and isinstance(head, ScalarEvent):
                message = f"the key `{head.value}` stands twice"
                self.report(head, "YAML_DUPLICATE_KEY", message, fix="remove one of them")
            body = next(self.events)
            assert isinstance(body, NodeEvent)
            below = (*path, name) if not seen else (*path, name, "second")
            built = self.value(body, below, head if isinstance(head, ScalarEvent) else None, depth + 1)
            found.setdefault(name, built)
        return found

    def sequence(self, event: SequenceStartEvent, path: Path, key: ScalarEvent | None, depth: int) -> list[Any]:
        self.mark(path, key, event)
        found: list[Any] = []
        while not isinstance(item := next(self.events), SequenceEndEvent):
            assert isinstance(item, NodeEvent)
            found.append(self.value(item, (*path, len(found)), None, depth + 1))
        return found

    def key(self, event: NodeEvent, path: Path, depth: int) -> Any:
        """Keys are text; only the two branches of a conditional may be the booleans true and false."""
        if not isinstance(event, ScalarEvent):
            self.report(event, "YAML_REFUSED", "a key must be plain text", fix="write the key as one word")
            self.value(event, (*path, "?"), None, depth + 1)
            return "?"
        self.count(event, depth)
        self.refuse_extras(event)
        name = self.scalar(event)
        if isinstance(name, bool) and path and path[-1] == "branches":
            return name
        if not isinstance(name, str):
            self.report(event, "VALUE_INVALID", f"the key {event.value} is not text", fix=f'write "{event.value}":')
            return event.value
        return name

    def scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            return self.report(event, "YAML_INVALID", "the text holds a character that JSON and Postgres cannot store")
        if not event.implicit[0]:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
            return text[0] in "tT"
        if text[0] not in "+-.0123456789":
            return text
        return self.number(event, text)

    def number(self, event: ScalarEvent, text: str) -> Any:
        if _NOT_FINITE.fullmatch(text):
            return self.report(event, "VALUE_INVALID", f"{text} is not a number that JSON knows", fix=f'write "{text}"')
        is_integer = any(form.fullmatch(text) for form in (_INTEGER, _OCTAL, _HEX))
        if not is_integer and not _FLOAT.fullmatch(text):
            return text
        if len(text) > DIGITS_MAX:
            return self.report(event, "VALUE_INVALID", "the number is too long", fix="write it in quotes if it is text")
        if is_integer:
            return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
        value = float(text)
        if not math.isfinite(value):
            return self.report(event, "VALUE_INVALID", f"{text} is too large", fix=f'write "{text}" if it is text')
        return value

    def refuse_extras(self, event: NodeEvent) -> None:
        if isinstance(event, AliasEvent):
            self.report(event, "YAML_REFUSED", f"the alias *{event.anchor} is not allowed", fix="write the value out")
            return
        if event.anchor is not None:
            self.report(event, "YAML_REFUSED", f"the anchor &{event.anchor} is not allowed", fix="remove it")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.report(event, "YAML_REFUSED", f"the tag {tag} is not allowed", fix="remove the tag")

    def count(self, event: NodeEvent, depth: int) -> None:
        self.values += 1
        if self.values > VALUES_MAX:
            self.report(
                event, "YAML_TOO_LARGE", f"the file has more than {VALUES_MAX} values", fix=TOO_LARGE_FIX, stop=True
            )
        if depth > DEPTH_MAX:
            self.report(event, "YAML_TOO_LARGE", f"the file is nested deeper than {DEPTH_MAX} levels", stop=True)

    def mark(self, path: Path, key: ScalarEvent | None, event: Event) -> None:
        line, column, end_line, width = _span(event)
        key_line, key_column, _, key_width = _span(key) if key is not None else (line, column, line, 0)
        self.source.marks[path] = Mark(key_line, key_column, key_width, line, column, end_line, width)

    def report(self, event: Event, code: str, message: str, *, fix: str | None = None, stop: bool = False) -> None:
        line, column, _, width = _span(event)
        place = self.source.at(line, column, width)
        self.source.findings.append(_placed(self.source.file, place, "error", code, message, fix=fix))
        if stop or len(self.source.findings) >= FINDINGS_MAX:
            raise _Stop


def _span(event: Event) -> tuple[int, int, int, int]:
    """Line and column of the start, line of the end, and the width on the first line."""
    at, upto = event.start_mark, event.end_mark
    assert at is not None, "the parser marks every event"
    assert upto is not None, "the parser marks every event"
    return at.line, at.column, upto.line, upto.column - at.column if upto.line == at.line else 1
