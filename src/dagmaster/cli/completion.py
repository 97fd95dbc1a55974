"""What may stand at the cursor: ids of the dagmaster that is up, and what this machine knows without asking anybody.

A shell waits for these while somebody types, so they import little, ask for half a second at most, and on any fault
offer nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

ASK_SECONDS_MAX = 0.5
JOBS_MAX = 100
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")
SHELLS = ("bash", "zsh", "fish")

Found = Iterable[str | tuple[str, str]]
"""Values, with a few words about each where there are any."""
Source = Callable[[typer.Context, str], list[str | tuple[str, str]]]


def source(find: Callable[[typer.Context], Found]) -> Source:
    """What `find` yields that begins with what is typed; nothing when it fails."""

    def offered(ctx: typer.Context, incomplete: str) -> list[str | tuple[str, str]]:
        try:
            found = list(find(ctx))
        except Exception:  # noqa: BLE001  # a traceback between two keystrokes helps nobody
            return []
        return [each for each in found if (each if isinstance(each, str) else each[0]).startswith(incomplete)]

    return offered


@source
def workflows(ctx: typer.Context) -> Found:
    """Ids of the bundled workflows and of those in the folders named."""
    from dagmaster.dag.library import available
    from dagmaster.settings import Settings

    return available(Settings().workflow_folders(ctx.params.get("workflows")))


@source
def jobs(ctx: typer.Context) -> Found:
    """Ids of the newest jobs."""
    return (_job(job) for job in _ask(ctx, f"/api/v1/jobs?limit={JOBS_MAX}")["items"])


@source
def live_jobs(ctx: typer.Context) -> Found:
    """Ids of the newest jobs that have not ended."""
    found = _ask(ctx, f"/api/v1/jobs?limit={JOBS_MAX}")["items"]
    return (_job(job) for job in found if job["status"] not in FINISHED)


@source
def nodes(ctx: typer.Context) -> Found:
    """The nodes of the job that stands before."""
    found = _ask(ctx, f"/api/v1/jobs/{_argument(ctx, 'job_id')}/nodes")["nodes"]
    return ((name, node["status"].lower()) for name, node in found.items() if node["type"] not in ("start", "end"))


@source
def versions(ctx: typer.Context) -> Found:
    """Beginnings of the digests of the workflow that stands before."""
    found = _ask(ctx, f"/api/v1/workflows/{_argument(ctx, 'workflow_id')}/versions")["items"]
    return ((line["digest"][:12], f"version {line['version']}, {line['created_at'][:16]}") for line in found)


@source
def handlers(ctx: typer.Context) -> Found:
    """The bundled handlers, and what the files in the folders named call theirs; no file is imported."""
    import re

    from dagmaster.handlers import BUNDLED
    from dagmaster.settings import Settings

    declared = re.compile(r"^@handler\(\s*[\"']([^\"']+)", re.MULTILINE)
    yield from BUNDLED
    for folder in Settings().handler_folders(ctx.params.get("handlers")):
        for file in sorted(folder.rglob("*.py")):
            yield from declared.findall(file.read_text("utf-8"))


@source
def input_keys(ctx: typer.Context) -> Found:
    """`KEY=` for each input of the workflow, or of the handler, that stands before."""
    if "workflow" in ctx.params:
        from dagmaster.cli.shared import input_properties

        properties = input_properties(_argument(ctx, "workflow"), ctx.params.get("workflows"))
    else:
        from dagmaster.handlers.manifest import bundled_specs

        properties = bundled_specs()[_argument(ctx, "name")].params_schema["properties"]
    return ((f"{key}=", str(about.get("description", about.get("type", "")))) for key, about in properties.items())


@source
def codes(ctx: typer.Context) -> Found:
    """Codes of errors and of the static check."""
    from dagmaster.dag.findings import CODES
    from dagmaster.errors import by_code

    return sorted({*by_code(), *CODES})


@source
def shells(ctx: typer.Context) -> Found:
    return SHELLS


def _argument(ctx: typer.Context, name: str) -> str:
    """The first argument, also where the parser lost it: at an option whose value is still to come."""
    if given := ctx.params.get(name):
        return str(given)
    words = (os.environ.get("COMP_WORDS") or os.environ["_TYPER_COMPLETE_ARGS"]).split()
    return words[words.index(ctx.info_name or "") + 1]


def _job(job: dict[str, Any]) -> tuple[str, str]:
    return job["job_id"], f"{job['status'].lower()} {job['workflow_id']}, {job['created_at'][:16]}"


def _ask(ctx: typer.Context, path: str) -> Any:
    """What the dagmaster that the command would talk to answers."""
    import json
    from http.client import HTTPConnection, HTTPSConnection
    from urllib.parse import urlsplit

    from dagmaster.run.places import service_url
    from dagmaster.settings import Settings

    data = ctx.params.get("data")
    address = urlsplit(service_url(Settings(), ctx.params.get("url"), Path(data) if data else None))
    made = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = made(address.hostname or "", address.port, timeout=ASK_SECONDS_MAX)
    try:
        connection.request("GET", address.path.rstrip("/") + path)
        return json.load(connection.getresponse())
    finally:
        connection.close()
