"""`python -m simulation --seeds 0:500 --mode all`: run seeds, and show the course of one that fails."""

from __future__ import annotations

import argparse
import sys
import time

from simulation import regressions
from simulation.run import Verdict, simulate
from simulation.swarm import MODES, Mode

LINES = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:500", help="FROM:TO, or one seed")
    parser.add_argument("--mode", default="both", choices=[*MODES, "both"])
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, even after one has failed")
    parser.add_argument("--lines", type=int, default=LINES, help="lines of the course to show")
    given = parser.parse_args()
    first, _, last = given.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    modes: tuple[Mode, ...] = MODES if given.mode == "both" else (given.mode,)
    started, faults, steps, seconds, failed = time.monotonic(), 0, 0, 0.0, 0
    runs = 0
    for seed in seeds:
        for mode in modes:
            verdict = simulate(seed, mode)
            runs += 1
            faults += verdict.faults
            steps += verdict.steps
            seconds += verdict.seconds
            if verdict.violation is not None:
                failed += 1
                show(verdict, given.lines)
                if not given.keep_going:
                    return 1
    took = time.monotonic() - started
    say(
        f"{runs} runs, {failed} failed; each {faults / runs:.0f} faults, {steps / runs:.0f} steps, {seconds / runs:.0f} s of "
        f"virtual time; {runs / took:.0f} runs/s"
    )
    return 1 if failed else 0


def show(verdict: Verdict, lines: int) -> None:
    say(f"seed {verdict.seed} {verdict.mode}: {verdict.violation}")
    say(f"  kept in {regressions.keep(verdict).name}; again: --seeds {verdict.seed} --mode {verdict.mode}")
    if lines:
        say(f"  {verdict.swarm}")
        for at, text in simulate(verdict.seed, verdict.mode, log=True).log[-lines:]:
            say(f"  {at:9.3f} {text}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
