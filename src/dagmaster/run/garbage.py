"""The garbage collector of a process that lives long and makes many small records."""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 20, 20)
"""New records before a look at the young ones, and so many of those looks before one at the older ones."""


def calm_garbage_collector() -> None:
    """Leave alone what the start has made, and look less often at what comes and goes.

    Almost all records of a tick go by reference counting; looking for cycles among them took as long as deciding.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
