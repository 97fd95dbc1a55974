"""How commands end: exit codes, and errors as people and scripts read them."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from typer.exceptions import TyperException

from dagmaster.cli.refusals import UsageInvalid
from dagmaster.cli.talk import paint, say, tell
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
FINDINGS_SHOWN = 5

MEANINGS = {
    COMPLETED: "done; the job COMPLETED",
    FAILED: "the job FAILED or was cancelled, or what was looked at has faults",
    REFUSED: "refused before anything was done: wrong usage, input, definition or setting",
    UNREACHABLE: "no dagmaster, or its database, answers; it is safe to repeat",
    NOT_FOUND: "there is no such job, node or version",
    CONFLICT: "somebody else holds the data folder, or the state does not allow it",
    TIME_LIMIT: "the time limit has passed; the work goes on",
    INTERRUPTED: "Ctrl-C or SIGTERM; the work goes on",
}

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


def end_of(command: Callable[[], Any], *, as_json: bool) -> int:
    """Do what a command does, to its exit code; whatever it raises leaves as a message or as a JSON document."""
    try:
        code = _run(command)
        sys.stdout.flush()
    except TyperException as problem:
        code = problem.exit_code
        if problem.format_message():  # without one, the help that was due has been printed
            _say_error(_usage(problem), as_json=as_json)
    except DagmasterError as error:
        _say_error(error, as_json=as_json)
        code = exit_code(error)
    except KeyboardInterrupt:
        say("interrupted; the work goes on when dagmaster is up again: dagmaster up")
        code = INTERRUPTED
    except BrokenPipeError:  # who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = COMPLETED
    except Exception as problem:  # noqa: BLE001  # the edge of the process: what nobody foresaw has a code too
        traceback.print_exc()
        _say_error(DagmasterError(why=f"{type(problem).__name__}: {problem}"), as_json=as_json)
        code = FAILED
    return code


def _run(command: Callable[[], Any]) -> int:
    made = command()
    if inspect.iscoroutine(made):
        from dagmaster.cli.loop import run_to_its_end

        made = run_to_its_end(made)
    return made or COMPLETED


def _say_error(error: DagmasterError, *, as_json: bool) -> None:
    if as_json:
        status = "REFUSED" if exit_code(error) == REFUSED else "ERROR"
        tell({"status": status, "error": error_document(error)})
    else:
        say(render_error(error_document(error)))


def _usage(problem: TyperException) -> UsageInvalid:
    """What the parser found wrong, in our words and with the command that explains."""
    context = getattr(problem, "ctx", None)
    path = context.command_path if context else "dagmaster"
    return UsageInvalid(problem=problem.format_message().strip(), where=path, remedy=f"{path} --help")


def render_error(error: dict[str, Any]) -> str:
    """`error[CODE]: fact`, then where, why, and what to do; then the faults that it consists of."""
    lines = [paint("red", f"error[{error['code']}]") + f": {error['message']}"]
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
