"""Whether a failed attempt is retried, and after how long."""

from __future__ import annotations

import random
from typing import Any

from dagmaster.dag.graph import RetryPolicy


def may_retry(policy: RetryPolicy, error: dict[str, Any], spent: int) -> bool:
    """`spent` attempts have failed, this one included. An error marked not retryable never retries."""
    if spent > policy.retries_max or not error.get("retryable", True):
        return False
    return not policy.on or error.get("code") in policy.on


def delay_seconds(policy: RetryPolicy, spent: int, *, seed: str) -> float:
    """The wait before the next attempt; jitter lengthens it by up to its share, the same for the same seed."""
    base = policy.initial_delay_seconds
    if policy.backoff == "linear":
        base *= spent
    elif policy.backoff == "exponential":
        base *= 2.0 ** min(spent - 1, 40)
    base = min(base, policy.max_delay_seconds)
    if policy.jitter:
        base *= 1.0 + policy.jitter * random.Random(seed).random()  # noqa: S311  # spreads load, hides nothing
    return base
