"""Runs that failed once, kept with their circumstances: `regressions/*.json`, each a seed that has to hold for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from simulation.run import Verdict, simulate
from simulation.swarm import Swarm

FOLDER = Path(__file__).parent / "regressions"


def keep(verdict: Verdict) -> Path:
    """Write a failed run down; what it draws later may change, its circumstances no longer do."""
    assert verdict.violation is not None
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{verdict.mode}-{verdict.seed}.json"
    found = {"seed": verdict.seed, "violation": verdict.violation.splitlines()[0], "swarm": asdict(verdict.swarm)}
    file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return file


def kept() -> Iterator[Path]:
    """All files, in order."""
    yield from sorted(FOLDER.glob("*.json"))


def again(file: Path) -> Verdict:
    """Run one of them."""
    found = json.loads(file.read_text("utf-8"))
    swarm = Swarm(**found["swarm"])
    return simulate(found["seed"], swarm.mode, swarm)
