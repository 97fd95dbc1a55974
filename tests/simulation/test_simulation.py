"""The engine under simulated faults: seeds, the runs that failed once, and the gate of mutants."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation import regressions
from simulation.mutants import MUTANTS, SEEDS_MAX, seeds_to_kill
from simulation.run import simulate
from simulation.swarm import MODES, Mode

SEEDS = 500
SEEDS_IN_ALL = 2_000
SEEDS_AT_LENGTH = 200_000
CHUNK = 100
MUTANTS_MIN = 20
FAULTS_MEAN_MIN = 30
"""Seeds that meet few faults would prove little."""

ALSO_IN_ALL = pytest.mark.battery
AT_LENGTH = pytest.mark.chaos


def hold(seeds: range, mode: Mode) -> float:
    """Run seeds; returns how many faults each met on average."""
    faults = 0
    for seed in seeds:
        verdict = simulate(seed, mode)
        assert verdict.violation is None, f'make simulate ARGS="--seeds {seed} --mode {mode}": {verdict.violation}'
        faults += verdict.faults
    return faults / len(seeds)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "first",
    [*range(0, SEEDS, CHUNK), *(pytest.param(each, marks=ALSO_IN_ALL) for each in range(SEEDS, SEEDS_IN_ALL, CHUNK))],
)
def test_seeds_hold(first: int, mode: Mode) -> None:
    assert hold(range(first, first + CHUNK), mode) > FAULTS_MEAN_MIN


@pytest.mark.chaos
@pytest.mark.parametrize("mode", MODES)
def test_seeds_hold_at_length(mode: Mode) -> None:
    hold(range(SEEDS_AT_LENGTH), mode)


@pytest.mark.parametrize("file", list(regressions.kept()), ids=lambda file: file.stem)
def test_run_that_failed_once_holds(file: Path) -> None:
    assert regressions.again(file).violation is None


@pytest.mark.parametrize("mode", MODES)
def test_seed_takes_the_same_course_again(mode: Mode) -> None:
    first, second = (simulate(7, mode, log=True) for _ in range(2))
    assert first.log == second.log
    assert len(first.log) > 0


def test_gate_has_enough_mutants() -> None:
    assert len(MUTANTS) >= MUTANTS_MIN


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.battery
def test_mutant_is_killed(name: str) -> None:
    """A program without one of its cures does not pass; a mutant that lives shows a hole in the simulation."""
    assert seeds_to_kill(MUTANTS[name]) is not None, f"{name} survives {SEEDS_MAX} seeds: {MUTANTS[name].cure}"
