"""The page of the last results, for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "latest.json"
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "performance.md"

HEAD = """# Performance

Written by `make bench` from the results of its last run; `make bench ARGS=--quick` takes a few minutes. Everything
is measured in one run on one Postgres with full durability: dagmaster as its local profile runs it, and the best
durable peer for that workload, each peer in an environment and a database of its own. Absolute figures do not travel
between machines: the ratio to the peer does, and the commit of one row says how fast the disk was. Figures are
medians, the spread is the smallest and the largest of the repetitions.

Workloads: **A** one job of 20 steps on an idle system · **B** one fan-out with its fan-in · **C** 500 jobs of five
steps, submitted one by one · **D** from a submission to the start of its first step, one job each 100 ms · **idle**
after 15 s of settling, with API, orchestrator, publisher, worker and catalogue in one process · **memory** the peak of
that process; child processes that wait for sandboxed work are not counted, as the peers have none.
"""


def page(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    machine = results["machine"]
    quick = " in the quick form" if results["quick"] else ""
    where = f"{machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    disk = f"PostgreSQL {machine['postgres']}, one commit {results['rows'][0]['commit_ms']:g} ms"
    lines = [
        HEAD,
        f"Taken {results['taken']}{quick}: {where}, {disk}.",
        "",
        "| figure | value | spread | best durable peer | ratio | target | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        peer = f"{row['peer']} {row['peer_value']:g}" if row["peer"] else ""
        ratio = f"{row['ratio']:g} times" if row["ratio"] else ""
        value = f"{row['value']:g} {row['unit']}".strip()
        met = "yes" if row["met"] else "**no**"
        lines.append(f"| {row['figure']} | {value} | {row['spread']} | {peer} | {ratio} | {row['target']} | {met} |")
    return "\n".join(lines) + "\n"


def write_page() -> None:
    """Bring the page up to the last results."""
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
