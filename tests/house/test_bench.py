"""The results of the benchmarks are complete, and their page is what they say."""

from __future__ import annotations

import json

from bench.page import PAGE, RESULTS, page
from bench.targets import TARGETS

KEYS = {"figure", "value", "unit", "peer", "ratio", "target", "met"}
ONLY_AT_LENGTH = {"B fan-out 1,000,000"}


def test_results_hold_a_row_for_each_target() -> None:
    found = json.loads(RESULTS.read_text("utf-8"))
    rows = {row["figure"]: row for row in found["rows"]}
    wanted = set(TARGETS) - (ONLY_AT_LENGTH if found["quick"] else set())
    assert set(rows) == wanted
    for row in rows.values():
        assert set(row) >= KEYS, row["figure"]
        target = TARGETS[row["figure"]]
        assert row["met"] == target.met(row["value"], row["ratio"])
        assert row["target"] == target.said()


def test_page_is_written_from_the_results() -> None:
    assert PAGE.read_text("utf-8") == page(json.loads(RESULTS.read_text("utf-8"))), "run: python -m bench --page"
