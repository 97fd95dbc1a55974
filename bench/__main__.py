"""`python -m bench`: measure dagmaster and its peers in one run, and say what is met and what is not."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import compare, machine
from bench.apart import scaling
from bench.ours import APART, Ours, fill, middle, percentile, profile
from bench.page import RESULTS, write_page
from bench.targets import TARGETS
from dagmaster.telemetry import set_up_logs

ALL = "ABCDPIFS"
WORKLOADS = {
    "A chain p50": "A",
    "B fan-out 1,000": "B1000",
    "B fan-out 10,000": "B10000",
    "C throughput": "C",
    "D submit to start p50": "D",
    "memory": "memory",
}
"""What peers can be asked as well."""
DBOS_CANNOT = ("B10000",)
"""Takes it longer than anybody waits for a benchmark."""


class Run:
    """The rows of one run."""

    def __init__(self, *, quick: bool, peers: bool) -> None:
        self.quick = quick
        self.repetitions = 3 if quick else 5
        self.why_no_peers = compare.prepare() if peers else "not asked for"
        self.rows: list[dict[str, Any]] = []
        self.commit = 0.0

    async def add(self, figure: str, values: list[float], server: str) -> float:
        """Say the median of a figure beside the best peer."""
        value, spread = middle(values)
        target = TARGETS[figure]
        peer, theirs = await asyncio.to_thread(self.best_peer, figure, server)
        ratio = None
        if theirs:
            ratio = theirs / value if target.smaller_is_better else value / theirs
        row = {
            "figure": figure,
            "value": round(value, 4),
            "unit": target.unit,
            "peer": peer,
            "ratio": round(ratio, 2) if ratio else None,
            "target": target.said(),
            "met": target.met(value, ratio),
            "peer_value": round(theirs, 4) if theirs else None,
            "spread": spread,
            "commit_ms": round(self.commit, 3),
        }
        self.rows.append(row)
        sys.stdout.write(line(row) + "\n")
        sys.stdout.flush()
        return value

    def best_peer(self, figure: str, server: str) -> tuple[str | None, float | None]:
        workload = WORKLOADS.get(figure)
        if workload is None or self.why_no_peers:
            return None, None
        found = {
            peer: value
            for peer in compare.PEERS
            if not (peer == "dbos" and workload in DBOS_CANNOT)
            and (value := compare.measure(peer, workload, server)) is not None
        }
        if not found:
            return None, None
        choose = min if TARGETS[figure].smaller_is_better else max
        return choose(found.items(), key=lambda item: item[1])


async def measure(run: Run, folder: Path, wanted: str) -> dict[str, Any]:
    async with profile(folder / "one") as ours:
        described = machine.described(ours.uri)
        run.commit = machine.commit_ms(ours.uri)
        sys.stdout.write(f"one commit: {run.commit:.3f} ms\n")
        if "A" in wanted or "P" in wanted:
            chain = await ours.chain(10 if run.quick else 20)
        if "A" in wanted:
            await run.add("A chain p50", chain, ours.uri)
            await run.add("A chain p95", [percentile(chain, 0.95)], ours.uri)
        if "B" in wanted:
            await fans(run, ours)
        if "C" in wanted:
            await ours.throughput()
            empty = await run.add("C throughput", [await ours.throughput() for _ in range(run.repetitions)], ours.uri)
        if "D" in wanted:
            waits = await ours.start(50 if run.quick else 100)
            await run.add("D submit to start p50", waits, ours.uri)
            await run.add("D submit to start p95", [percentile(waits, 0.95)], ours.uri)
        if "P" in wanted:
            await ours.throughput(APART)
            await run.add(
                "C in child processes", [await ours.throughput(APART) for _ in range(run.repetitions)], ours.uri
            )
            apart, _ = middle(await ours.chain(10, APART))
            await run.add("A in child processes, more than inline", [apart - middle(chain)[0]], ours.uri)
        if "I" in wanted:
            cpu, transactions = await ours.idle(20 if run.quick else 60)
            await run.add("idle processor", [cpu], ours.uri)
            await run.add("idle transactions", [transactions], ours.uri)
        if "F" in wanted and "C" in wanted:
            fill(ours.uri, 50_000 if run.quick else 1_000_000)
            full = [await ours.throughput() for _ in range(run.repetitions)]
            await run.add("C with finished jobs ÷ without", [each / empty for each in full], ours.uri)
    return described


async def add_all(run: Run, found: dict[str, list[float]]) -> None:
    for figure, values in found.items():
        await run.add(figure, values, "")


async def fans(run: Run, ours: Ours) -> None:
    """B, and the memory that it takes by width."""
    peaks = {}
    for width in (1_000, 10_000, 100_000):
        machine.forget_peak(ours.pids[:1])
        took = [await ours.fan(width) for _ in range(run.repetitions if width < 100_000 else 1)]
        peaks[width] = machine.peak_mb(ours.pids[:1])
        if width < 100_000:
            await run.add(f"B fan-out {width:,}", took, ours.uri)
        if width == 1_000:
            await run.add("memory", [peaks[width]], ours.uri)
    await run.add("memory, 100,000 wide ÷ 10,000 wide", [peaks[100_000] / peaks[10_000]], ours.uri)
    if not run.quick:
        await run.add("B fan-out 1,000,000", [1_000_000 / await ours.fan(1_000_000)], ours.uri)


def line(row: dict[str, Any]) -> str:
    beside = f"{row['peer']} {row['peer_value']:g}, {row['ratio']:g} times" if row["peer"] else ""
    met = "met" if row["met"] else "NOT MET"
    return f"{row['figure']:40} {row['value']:>10g} {row['unit']:12} {beside:34} {row['target']:26} {met}"


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dm-bench-", dir="/var/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer repetitions, no million")
    parser.add_argument("--no-peers", action="store_true", help="dagmaster alone")
    parser.add_argument(
        "--only", default="ABCDPIFS", help="letters of A B C D, P processes, I idle, F finished jobs, S scaling"
    )
    parser.add_argument("--page", action="store_true", help="only write the page of the last results")
    given = parser.parse_args()
    if given.page:
        write_page()
        return 0
    set_up_logs("warning")
    run = Run(quick=given.quick, peers=not given.no_peers)
    if run.why_no_peers:
        sys.stdout.write(f"no peers: {run.why_no_peers}\n")
    with scratch() as folder:
        described = asyncio.run(measure(run, folder, given.only))
        if "S" in given.only:
            asyncio.run(add_all(run, scaling(folder / "apart", run.repetitions)))
    if set(given.only) >= set(ALL):
        RESULTS.parent.mkdir(exist_ok=True)
        taken = {"taken": f"{datetime.now(UTC):%Y-%m-%d}", "quick": given.quick, "machine": described, "rows": run.rows}
        RESULTS.write_text(json.dumps(taken, indent=1, ensure_ascii=False) + "\n", "utf-8")
        write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
