"""The circumstances of one seed: how many there are of everything, how slow it is, and what goes wrong how often.

Each seed draws its own, because fixed circumstances hide faults behind each other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

Mode = Literal["all", "orchestrator"]
MODES: tuple[Mode, ...] = ("all", "orchestrator")


@dataclass(frozen=True, slots=True)
class Swarm:
    """One set of circumstances. Rates are per call, per attempt or per job, 0 to 1; times in seconds."""

    mode: Mode
    jobs: int
    orchestrators: int
    workers: int
    publishers: int
    shards: int
    slots: int
    line: int
    """How many light attempts may wait for a thread in a local worker."""
    local: bool
    """Each orchestrator has a worker in its own process."""
    submit_over: float
    """Jobs come within this time."""
    faults_until: float
    latency: float
    work_seconds: float
    """How long an attempt takes, most of the time."""
    look_limit: int
    live_max: int
    """Children handed out at a time, and messages read at a time: small, so that the bounds are met."""

    # what may go wrong in every mode
    kill: float
    """An orchestrator dies at a call."""
    freeze: float
    """It stands still at a call."""
    freeze_seconds: float
    cut: float
    """A call fails before anything has happened."""
    unanswered: float
    """A call succeeds and its answer is lost."""
    slow: float
    """A call takes a hundred times as long."""
    deaf: float
    """A hint is lost."""
    mute: float
    """The session that shows that an orchestrator lives is cut at a call."""
    stop: float
    """An orchestrator is told to stop at a call."""
    drift: float
    cancel: float
    rudeness: float
    """Submissions sent again because their answer was lost."""

    # what only happens when everything may go wrong
    worker_kill: float = 0.0
    worker_freeze: float = 0.0
    worker_cut: float = 0.0
    worker_unanswered: float = 0.0
    worker_stop: float = 0.0
    publisher_kill: float = 0.0
    publisher_freeze: float = 0.0
    publisher_cut: float = 0.0
    publication_fails: float = 0.0
    duplicate: float = 0.0
    """A message comes twice, the second time late."""
    late: float = 0.0
    """A message becomes visible late, after others that were sent after it."""
    garbage: float = 0.0
    """Per attempt: a message that makes no sense comes with it."""
    outage: float = 0.0
    """Per job: all connections are cut at once."""
    poison: float = 0.0
    """An attempt returns what the store cannot hold."""
    unreadable: float = 0.0
    """A job has a definition that cannot be read."""

    # what handlers do, in every mode
    fails: float = 0.0
    fatal: float = 0.0
    slow_work: float = 0.0
    """An attempt takes longer than it may."""
    effects: float = 0.0

    @property
    def knobs(self) -> tuple[str, ...]:
        """Names of the faults that are on."""
        return tuple(each.name for each in fields(self) if each.name in FAULTS and getattr(self, each.name))

    def without(self, *names: str) -> Swarm:
        off: dict[str, Any] = dict.fromkeys(names, 0.0)
        return replace(self, **off)


FAULTS = frozenset(
    [
        "kill",
        "freeze",
        "cut",
        "unanswered",
        "slow",
        "deaf",
        "mute",
        "stop",
        "drift",
        "cancel",
        "rudeness",
        "worker_kill",
        "worker_freeze",
        "worker_cut",
        "worker_unanswered",
        "worker_stop",
        "publisher_kill",
        "publisher_freeze",
        "publisher_cut",
        "publication_fails",
        "duplicate",
        "late",
        "garbage",
        "outage",
        "poison",
        "unreadable",
        "fails",
        "fatal",
        "slow_work",
    ]
)


@dataclass(slots=True)
class Chance:
    """Draws that leave a rate out now and then, and choose it anew for each seed."""

    rng: random.Random
    drawn: dict[str, float] = field(default_factory=dict)

    def rate(self, most: float, often: float = 0.6) -> float:
        """Zero, or anything up to `most`, small values as likely as large ones."""
        if self.rng.random() > often:
            return 0.0
        return most * 10 ** -(2 * self.rng.random())

    def spread(self, least: float, most: float) -> float:
        """Anything between the two, by orders of magnitude."""
        return float(least * (most / least) ** self.rng.random())


def draw(seed: int, mode: Mode) -> Swarm:
    """The circumstances of a seed."""
    rng = random.Random(f"{seed}/{mode}")
    chance = Chance(rng)
    rate, spread = chance.rate, chance.spread
    local = rng.random() < 0.5
    swarm = Swarm(
        mode=mode,
        jobs=rng.choice((1, 1, 2, 2, 3, 4)),
        orchestrators=rng.choice((1, 2, 2, 3)),
        workers=rng.choice((0, 1, 2)) if local else rng.choice((1, 2, 3)),
        publishers=rng.choice((1, 1, 2)),
        shards=rng.choice((1, 2, 4)),
        slots=rng.choice((1, 2, 4, 8)),
        line=rng.choice((0, 0, 2, 20)),
        local=local,
        submit_over=spread(0.1, 30),
        faults_until=spread(20, 120),
        latency=spread(0.0005, 0.05),
        work_seconds=spread(0.02, 8),
        look_limit=rng.choice((1, 3, 2_000, 2_000)),
        live_max=rng.choice((1, 3, 1_000, 1_000)),
        kill=rate(0.2),
        freeze=rate(0.2),
        freeze_seconds=spread(0.5, 90),
        cut=rate(0.3),
        unanswered=rate(0.4, 0.8),
        slow=rate(0.4),
        deaf=rng.choice((0.0, 0.0, 0.1, 0.5, 1.0)),
        mute=rate(0.3),
        stop=rate(0.1),
        drift=rng.choice((0.0, 0.001, 0.02)),
        cancel=rng.choice((0.0, 0.0, 0.1, 0.5)),
        rudeness=rng.choice((0.0, 0.3)),
        fails=rate(0.4),
        fatal=rate(0.1, 0.4),
        slow_work=rate(0.15, 0.4),
        effects=rng.choice((0.0, 0.2, 0.8)),
    )
    if mode == "orchestrator":
        return swarm
    return replace(
        swarm,
        worker_kill=rate(0.2),
        worker_freeze=rate(0.2),
        worker_cut=rate(0.4),
        worker_unanswered=rate(0.4),
        worker_stop=rate(0.1),
        publisher_kill=rate(0.4),
        publisher_freeze=rate(0.4),
        publisher_cut=rate(0.4),
        publication_fails=rate(0.5),
        duplicate=rng.choice((0.0, 0.1, 0.3)),
        late=rng.choice((0.0, 0.1, 0.3)),
        garbage=rate(0.8),
        outage=rng.choice((0.0, 0.5, 1.0)),
        poison=rng.choice((0.0, 0.0, 0.0, 0.1)),
        unreadable=rng.choice((0.0, 0.0, 0.0, 0.3)),
    )
