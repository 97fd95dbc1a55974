"""What `dagmaster explain` knows: every code that an error, a problem document or a finding may carry."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from dagmaster.dag.findings import CODES
from dagmaster.errors import DagmasterError, by_code

HOMES = (
    "dagmaster.catalog.base",
    "dagmaster.cli.refusals",
    "dagmaster.client.client",
    "dagmaster.handlers.outside",
    "dagmaster.run.demo",
    "dagmaster.serving.tiles",
    "dagmaster.web.problems",
)
"""Rooms with error classes of their own, which are known once they are imported."""


def explanation(code: str) -> dict[str, Any] | None:
    """The long text of a code."""
    found = known().get(code) if code not in by_code() and code not in CODES else by_code().get(code)
    if found is None and code not in CODES:
        return None
    return {
        "code": code,
        "message": found.__doc__ if found else CODES[code],
        "explanation": found.explanation if found else CODES[code],
        "remedy": found.remedy if found else "dagmaster workflow check FILE names the line and the fix.",
        "retryable": found.retryable if found else False,
    }


def near(code: str) -> str | None:
    """The code that was probably meant."""
    return next(iter(difflib.get_close_matches(code, [*known(), *CODES], n=1)), None)


def known() -> dict[str, type[DagmasterError]]:
    """Every error class by its code, also those of rooms that explaining one rarely needs."""
    for home in HOMES:
        import_module(home)
    return by_code()
