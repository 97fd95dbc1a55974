"""Exit codes, and errors as people read them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from dagmaster.dag.findings import Finding, render
from dagmaster.errors import (
    DagmasterError,
    DatabaseUnreachable,
    DataFolderInUse,
    DataFolderUnusable,
    IdempotencyConflict,
    NotFound,
    PortInUse,
    Refused,
    ServiceUnreachable,
    SettingInvalid,
    SettingMissing,
    StaleState,
)

COMPLETED = 0
FAILED = 1
REFUSED = 2
UNREACHABLE = 3
NOT_FOUND = 5
CONFLICT = 6
TIME_LIMIT = 7
INTERRUPTED = 130
MEANINGS = {
    COMPLETED: "done; the job COMPLETED",
    FAILED: "the job FAILED or was cancelled, or what was looked at has faults",
    REFUSED: "refused before anything was done: wrong usage, input, definition or setting",
    UNREACHABLE: "no dagmaster, or its database, answers",
    NOT_FOUND: "there is no such job, node, workflow or handler",
    CONFLICT: "somebody else holds the data folder, or the state does not allow it",
    TIME_LIMIT: "the time limit has passed",
    INTERRUPTED: "Ctrl-C",
}
FINDINGS_SHOWN = 5

CODES: dict[type[DagmasterError], int] = {
    IdempotencyConflict: CONFLICT,
    Refused: REFUSED,
    SettingInvalid: REFUSED,
    SettingMissing: REFUSED,
    PortInUse: REFUSED,
    DataFolderUnusable: REFUSED,
    ServiceUnreachable: UNREACHABLE,
    DatabaseUnreachable: UNREACHABLE,
    NotFound: NOT_FOUND,
    StaleState: CONFLICT,
    DataFolderInUse: CONFLICT,
}


def exit_code(error: DagmasterError) -> int:
    """The exit code of the nearest class in the table."""
    return next((CODES[cls] for cls in type(error).__mro__ if cls in CODES), FAILED)


def say(text: str = "") -> None:
    """One line of talk, to stderr."""
    print(text, file=sys.stderr, flush=True)


def say_json(document: Any) -> None:
    """Exactly one JSON document, to stdout."""
    print(json.dumps(document, ensure_ascii=False, default=str), flush=True)


def render_error(error: dict[str, Any]) -> str:
    """`error[CODE]: fact`, then where, why, and what to do; then the faults that it consists of."""
    lines = [paint("31;1", f"error[{error['code']}]") + f": {error['message']}"]
    if findings := [problem for problem in error.get("problems") or [] if "severity" in problem]:
        return "\n".join([*lines, *_findings(findings, error)])
    if error.get("where"):
        lines.append(f"  where: {error['where']}")
    elif error.get("node"):
        lines.append(f"  where: node `{error['node']}`")
    problems = error.get("problems") or []
    if len(problems) > 1:
        lines += [f"  - {problem['message']} {problem.get('remedy') or ''}".rstrip() for problem in problems]
    if error.get("why"):
        lines.append("  why: " + str(error["why"]).strip().replace("\n", "\n       "))
    if error.get("remedy"):
        helps = "helps" if error.get("retryable") else "does not help"
        lines.append(f"  fix: {error['remedy']}    retry: {helps}")
    return "\n".join(lines)


def _findings(findings: list[dict[str, Any]], error: dict[str, Any]) -> Iterator[str]:
    """The first findings of the static check, each with its own place and fix."""
    for finding in findings[:FINDINGS_SHOWN]:
        yield "\n" + render(Finding.from_dict(finding))
    if len(findings) > FINDINGS_SHOWN:
        yield f"\n… and {len(findings) - FINDINGS_SHOWN} more: {error['remedy']}"


def error_document(error: DagmasterError) -> dict[str, Any]:
    """The error object, with all faults when there are several."""
    findings = [finding.as_dict() for finding in error.facts.get("findings", [])]
    problems = [*error.facts.get("problems", []), *findings]
    return error.as_dict() | ({"problems": problems} if problems else {})


def paint(style: str, text: str) -> str:
    """Colour on a terminal that wants it."""
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{style}m{text}\x1b[0m"
