"""The extent of a collection as the union of its items, widened item by item. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

KNOWN_TIMES = "0002-01-01"
"""Times before this one are the sentinel for "no time is known"; they do not count for the interval."""
NARROWER = 1e-9
"""Degrees by which the box over longitude 180 must be narrower to be taken."""
LEAST = ("south", "west_0", "begin_180", "starts_at")
MOST = ("north", "east_0", "end_180", "ends_at")
TAKEN_ALONG = {"begin_180": "west_180", "end_180": "east_180"}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far items reach, by two boxes: one that lies over longitude 0, and one that lies over longitude 180.

    The second is measured from 0 to 540 (`begin_180`, `end_180`) and keeps the longitudes that it was made of, so that
    no digit is lost. Times are UTC in full length, which makes them comparable as text.
    """

    south: float
    north: float
    west_0: float
    east_0: float
    begin_180: float
    west_180: float
    end_180: float
    east_180: float
    over_zero: bool
    """Whether an item lies on both sides of longitude 0, so that there is no box over 180."""
    starts_at: str | None
    ends_at: str | None

    @classmethod
    def of(cls, *, west: float, south: float, east: float, north: float, starts_at: str, ends_at: str) -> Reach:
        """That of one item; west > east crosses the antimeridian."""
        crosses = east < west
        begin = west + 360 if west < 0 else west
        end = begin + (east - west + 360 if crosses else east - west)
        return cls(
            south=south,
            north=north,
            west_0=-180 if crosses else west,
            east_0=180 if crosses else east,
            begin_180=begin,
            west_180=west,
            end_180=end,
            east_180=east,
            over_zero=end > 360,
            starts_at=starts_at if starts_at > KNOWN_TIMES else None,
            ends_at=ends_at if ends_at > KNOWN_TIMES else None,
        )

    def widened(self, by: Reach) -> Reach:
        """The union of both."""
        made = asdict(self) | {"over_zero": self.over_zero or by.over_zero}
        for name in (*LEAST, *MOST):
            theirs = getattr(by, name)
            if _exceeds(name, theirs, made[name]):
                made[name] = theirs
                if along := TAKEN_ALONG.get(name):
                    made[along] = getattr(by, along)
        return Reach(**made)

    def shrinks(self, before: Reach, after: Reach | None) -> bool:
        """Whether this union of many may be too wide once one of them is no longer `before` but `after`, or nothing."""
        if before.over_zero and (after is None or not after.over_zero):
            return True
        for name in (*LEAST, *MOST):
            was = getattr(before, name)
            rests_on_it = was is not None and not _exceeds(name, getattr(self, name), was)
            if rests_on_it and (after is None or _exceeds(name, was, getattr(after, name))):
                return True
        return False

    def extent(self) -> dict[str, Any]:
        """As a collection says it; of the two boxes the narrower is taken."""
        wide, narrow = self.east_0 - self.west_0, self.end_180 - self.begin_180
        bbox = (
            [self.west_180, self.south, self.east_180, self.north]
            if not self.over_zero and narrow < wide - NARROWER
            else [self.west_0, self.south, self.east_0, self.north]
        )
        interval = [_written(self.starts_at), _written(self.ends_at)]
        return {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [interval]}}


def _exceeds(name: str, one: Any, other: Any) -> bool:
    """Whether the first reaches further in the direction that the name stands for; nothing reaches nowhere."""
    if one is None or other is None:
        return one is not None
    return bool(one < other) if name in LEAST else bool(one > other)


def _written(moment: str | None) -> str | None:
    return moment.removesuffix(".000000") + "Z" if moment else None
