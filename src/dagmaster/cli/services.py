"""Commands that look at the parts of a running dagmaster, and across its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagmaster.cli import exits
from dagmaster.cli.program import (
    LOOK,
    DataOption,
    JsonOption,
    LinesOption,
    NodeStatusOption,
    UrlOption,
    command,
    service_app,
)
from dagmaster.cli.talk import Cell, say, show_table, status_cell, tell, tell_page

if TYPE_CHECKING:
    from pydantic import BaseModel

HEALTH_COLOURS = {"ok": "green", "degraded": "yellow", "down": "red"}


@command("tasks", "dagmaster tasks", "dagmaster tasks --queue heavy", panel=LOOK)
async def tasks(
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Of one queue.")] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """List live tasks and say why each one waits."""
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        page = await client.tasks(queue)
    if as_json or as_lines:
        _tell(page.items, as_lines=as_lines, following=page.next)
        return
    show_table(("job", "node", "queue", "why"), ((each.job_id, each.node, each.queue, each.why) for each in page.items))
    if not page.items:
        say("no task waits or runs")


@command("health", "dagmaster service health", of=service_app)
async def health(url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False) -> int:
    """Show the parts one by one; exits with 1 when one of them is not well."""
    from dagmaster.cli.shared import service

    async with service(url, data) as client:
        body = await client.health()
    if as_json:
        tell(body.model_dump(mode="json"))
    else:
        parts = body.components.items()
        rows = [(name, Cell(part.status, HEALTH_COLOURS[part.status]), part.detail) for name, part in parts]
        show_table(("part", "status", "detail"), rows)
        say(f"{body.status}: dagmaster {body.version} at {client.url}, up for {body.uptime_seconds:.0f} s")
    return exits.COMPLETED if body.status == "ok" else exits.FAILED


@command("queues", "dagmaster service queues", of=service_app)
async def queues(
    url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False, as_lines: LinesOption = False
) -> None:
    """List the queues, with what waits, what runs, and who serves them."""
    from dagmaster.cli.screen import duration
    from dagmaster.cli.shared import service

    async with service(url, data) as client:
        page = await client.queues()
    if as_json or as_lines:
        _tell(page.items, as_lines=as_lines)
        return
    rows = (
        (each.queue, str(each.waiting), str(each.running), duration(each.oldest_seconds), str(each.workers))
        for each in page.items
    )
    show_table(("queue", "waiting", "running", "oldest", "workers"), rows)


@command("workers", "dagmaster service workers", of=service_app)
async def workers(
    url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False, as_lines: LinesOption = False
) -> None:
    """List the live workers."""
    from dagmaster.cli.shared import service

    async with service(url, data) as client:
        page = await client.workers()
    if as_json or as_lines:
        _tell(page.items, as_lines=as_lines)
        return
    rows = ((each.worker_id, str(each.slots), _since(each), ", ".join(each.queues)) for each in page.items)
    show_table(("worker", "slots", "since", "queues"), rows)
    if not page.items:
        say("no worker is alive; start one: dagmaster worker")


@command("orchestrators", "dagmaster service orchestrators", of=service_app)
async def orchestrators(
    url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False, as_lines: LinesOption = False
) -> None:
    """List the orchestrators and how they share the jobs."""
    from dagmaster.cli.shared import service

    async with service(url, data) as client:
        page = await client.orchestrators()
    if as_json or as_lines:
        _tell(page.items, as_lines=as_lines)
        return
    rows = ((each.orchestrator_id, _since(each), f"{each.shards} shards") for each in page.items)
    show_table(("orchestrator", "since", "shards"), rows)


@command("nodes", "dagmaster service nodes", "dagmaster service nodes --status FAILED --limit 20", of=service_app)
async def nodes(
    node_status: NodeStatusOption = "RUNNING",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at the most.")] = 100,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """List the nodes of all jobs that are in one state."""
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        page = await client.live_nodes(node_status or "RUNNING", limit)
    if as_json or as_lines:
        _tell(page.items, as_lines=as_lines, following=page.next)
        return
    rows = (
        (each.job_id, each.workflow_id, each.node, status_cell(each.status), each.error.code if each.error else "")
        for each in page.items
    )
    show_table(("job", "workflow", "node", "status", "note"), rows)
    if not page.items:
        say(f"no node is {node_status}")


def _tell(items: Sequence[BaseModel], *, as_lines: bool, following: Any = None) -> None:
    tell_page([item.model_dump(mode="json") for item in items], as_lines=as_lines, following=following)


def _since(line: Any) -> str:
    return f"{line.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
