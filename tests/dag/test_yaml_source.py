"""The hardened YAML loader: bounds, refusals, YAML 1.2 scalars, and places."""

from __future__ import annotations

import time

import pytest

from dagmaster.dag.findings import Finding, render
from dagmaster.dag.yaml_source import read_yaml


def codes(text: str) -> list[str]:
    return [finding.code for finding in read_yaml(text, "w.yaml").findings]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("no", "no"), ("on", "on"), ("off", "off"), ("yes", "yes"), ("y", "y"),
        ("12:30:00", "12:30:00"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("1_000", "1_000"), ("-7", -7), ("+7", 7),
        ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("1.2.3", "1.2.3"), ("2024-01-01", "2024-01-01"),
        ("true", True), ("FALSE", False), ("tRUE", "tRUE"), ("~", None), ("null", None), ("", None),
        ('"true"', "true"), ("'12'", "12"), ("-", [None]), (".", "."), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    read = read_yaml(f"key:\n  {text}\n", "w.yaml")
    assert read.findings == []
    assert read.data == {"key": value}
    assert type(read.data["key"]) is type(value)


def test_true_and_false_are_booleans_only_as_keys_of_branches() -> None:
    assert read_yaml("branches: {true: a, false: b}", "w").data == {"branches": {True: "a", False: "b"}}
    assert codes("other: {true: a}") == ["VALUE_INVALID"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &x 1\nb: *x", "YAML_REFUSED"),
        ("a: &x 1", "YAML_REFUSED"),
        ("a: *nothing", "YAML_REFUSED"),
        ("a: !!python/object/apply:os.system [id]", "YAML_REFUSED"),
        ("a: !!str 1", "YAML_REFUSED"),
        ("a: !local 1", "YAML_REFUSED"),
        ("? [a, b]\n: 1", "YAML_REFUSED"),
        ("a: 1\na: 2", "YAML_DUPLICATE_KEY"),
        ("a: {b: 1, b: 2}", "YAML_DUPLICATE_KEY"),
        ("1: a", "VALUE_INVALID"),
        ("null: a", "VALUE_INVALID"),
        ("a: .inf", "VALUE_INVALID"),
        ("a: .nan", "VALUE_INVALID"),
        ("a: 1e999", "VALUE_INVALID"),
        ("a: " + "9" * 5000, "VALUE_INVALID"),
        ('a: "\\0"', "YAML_INVALID"),
        ("a: b: c", "YAML_INVALID"),
        ("a: [1, 2", "YAML_INVALID"),
        ("a: 1\n---\nb: 2", "YAML_INVALID"),
        ("", "YAML_INVALID"),
        ("a: \x07", "YAML_INVALID"),
        ("[" * 2000, "YAML_TOO_LARGE"),
        ("a: " + "{a: " * 40 + "1" + "}" * 40, "YAML_TOO_LARGE"),
        ("a: [" + "1," * 10_001 + "]", "YAML_TOO_LARGE"),
        ("a: " + "x" * 300_000, "YAML_TOO_LARGE"),
    ],
)
def test_what_is_refused_is_refused_quickly(text: str, code: str) -> None:
    start = time.process_time()
    assert code in codes(text)
    assert time.process_time() - start < 2


def test_an_alias_bomb_expands_to_nothing() -> None:
    levels = "\n".join(f"k{n}: &k{n} [*k{n - 1}, *k{n - 1}, *k{n - 1}]" for n in range(1, 20))
    assert set(codes(f"k0: &k0 x\n{levels}")) == {"YAML_REFUSED"}


def test_all_faults_are_reported_at_once_with_their_lines() -> None:
    read = read_yaml("a: &x 1\nb: 2\nb: 3\nc: !t 4\n", "w.yaml")
    assert [(found.line, found.column) for found in read.findings] == [(1, 4), (3, 1), (4, 4)]


def test_keys_and_values_know_their_place() -> None:
    read = read_yaml('a:\n  b: ["{{ x }}", two]\n', "w.yaml")
    value = read.place(("a", "b", 0))
    key = read.place(("a", "b"), on_key=True)
    inner = read.place(("a", "b", 0), "x }}")
    assert value is not None and (value.line, value.column) == (2, 7)  # noqa: PT018  # the first half is for mypy
    assert key is not None and (key.line, key.column) == (2, 3)  # noqa: PT018
    assert inner is not None and (inner.line, inner.column) == (2, 11)  # noqa: PT018


def test_of_a_long_line_the_part_around_the_fault_is_shown() -> None:
    (finding,) = read_yaml("a: [" + "1, " * 3000 + ".nan, 2]", "w.yaml").findings
    excerpt, carets = render(finding).splitlines()[2:4]
    assert len(excerpt) < 200
    assert excerpt[carets.index("^") : carets.rindex("^") + 1] == ".nan"
    assert finding.as_dict()["excerpt"] is None


def test_finding_is_the_same_after_its_way_through_json() -> None:
    (finding,) = read_yaml("a: .nan", "w.yaml").findings
    assert Finding.from_dict(finding.as_dict()) == finding
