"""What each figure has to reach: in the same run beside a peer, and as an absolute figure of this class of machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A figure with its limit. `ratio` is how many times better than the best durable peer it has to be."""

    figure: str
    unit: str
    limit: float
    smaller_is_better: bool = True
    ratio: float | None = None

    def met(self, value: float, ratio: float | None) -> bool:
        """Both the limit and, where a peer was measured, the ratio."""
        within = value <= self.limit if self.smaller_is_better else value >= self.limit
        return within and (self.ratio is None or ratio is None or ratio >= self.ratio)

    def said(self) -> str:
        """The target in words."""
        words = f"{'≤' if self.smaller_is_better else '≥'} {self.limit:g}"
        return words if self.ratio is None else f"{words}, {self.ratio:g} times the peer"


TARGETS = {
    target.figure: target
    for target in (
        Target("A chain p50", "ms/step", 1.0, ratio=3.5),
        Target("A chain p95", "ms/step", 2.0),
        Target("B fan-out 1,000", "s", 0.10, ratio=18),
        Target("B fan-out 10,000", "s", 1.0, ratio=18),
        Target("B fan-out 1,000,000", "children/s", 8_000, smaller_is_better=False),
        Target("C throughput", "steps/s", 10_000, smaller_is_better=False, ratio=20),
        Target("D submit to start p50", "ms", 3.0, ratio=1.5),
        Target("D submit to start p95", "ms", 5.0),
        Target("idle processor", "% of a core", 0.5),
        Target("idle transactions", "1/s", 1.0),
        Target("memory", "MB", 100, ratio=1.0),
        Target("memory, 100,000 wide ÷ 10,000 wide", "", 1.1),
        Target("C with finished jobs ÷ without", "", 0.9, smaller_is_better=False),
        Target("C, 2 orchestrators ÷ 1", "", 0.9, smaller_is_better=False),
        Target("C, 4 workers ÷ 1", "", 0.9, smaller_is_better=False),
        Target("C in child processes", "steps/s", 3_000, smaller_is_better=False),
        Target("A in child processes, more than inline", "ms/step", 0.5),
    )
}
