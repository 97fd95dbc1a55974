"""How two normalised definitions differ, path by path."""

from __future__ import annotations

from typing import Any

from dagmaster.contract.api import DifferenceLine

ABSENT = object()


def differences(before: Any, after: Any, path: str = "") -> list[DifferenceLine]:
    """Each place where the two documents differ, as a JSON pointer with both values; None stands for absent."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines: list[DifferenceLine] = []
        for key in sorted(before.keys() | after.keys()):
            lines += differences(before.get(key, ABSENT), after.get(key, ABSENT), f"{path}/{key}")
        return lines
    if before == after:
        return []
    return [
        DifferenceLine(
            path=path or "/", before=None if before is ABSENT else before, after=None if after is ABSENT else after
        )
    ]
