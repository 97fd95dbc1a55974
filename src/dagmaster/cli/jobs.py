"""Commands that look at jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dagmaster.cli import completion, exits
from dagmaster.cli.program import (
    LOOK,
    DataOption,
    JobArgument,
    JobStatusOption,
    JsonOption,
    LinesOption,
    NodeOption,
    NodeStatusOption,
    UrlOption,
    command,
    job_app,
)
from dagmaster.cli.refusals import UsageInvalid
from dagmaster.cli.talk import say, show_table, status_cell, tell, tell_page

if TYPE_CHECKING:
    from dagmaster.client.client import Client
    from dagmaster.contract.api import JobLine, JobPage

Order = Literal["newest", "oldest", "slowest", "status", "workflow"]
PAGE_MAX = 500
LOOKED_AT_MAX = 10_000
"""How many jobs a filter that the API does not know looks through."""
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@command("status", "dagmaster status JOB", "dagmaster status JOB --json", panel=LOOK)
async def status(
    job_id: JobArgument, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> int:
    """Show one job."""
    from dagmaster.cli.shared import print_job, reader

    async with reader(url, data) as client:
        return print_job(await client.job(job_id), as_json=as_json)


@command(
    "jobs",
    "dagmaster jobs",
    "dagmaster jobs --status FAILED --since 2h",
    "dagmaster jobs --workflow raster_ingest --sort slowest --limit 10",
    panel=LOOK,
)
async def jobs(
    url: UrlOption = None,
    data: DataOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE_MAX, help="How many at the most.")] = 20,
    job_status: JobStatusOption = None,
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", metavar="ID", help="Of one workflow.", autocompletion=completion.workflows),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Made since then: 30m, 2h, 7d, or a date and time.")
    ] = None,
    correlation_id: Annotated[
        str | None, typer.Option("--correlation-id", metavar="ID", help="With this correlation id.")
    ] = None,
    sort: Annotated[Order, typer.Option("--sort", help="The order of those shown.")] = "newest",
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """List jobs, the newest ones."""
    from dagmaster.cli.shared import reader

    began = moment(since, datetime.now().astimezone()) if since else None
    wanted = {"status": job_status, "workflow_id": workflow}
    async with reader(url, data) as client:
        if began is None and correlation_id is None:
            page = await client.jobs(limit=limit, **wanted)
        else:
            page = await _look_through(client, limit, began, correlation_id, wanted)
    items = in_order(page.items, sort)
    if as_json or as_lines:
        lines = [line.model_dump(mode="json") for line in items]
        tell_page(lines, as_lines=as_lines, following=page.next)
        return
    show_table(("job", "created", "status", "time", "workflow", "note"), map(_row, items))
    if not items and not any([*wanted.values(), began, correlation_id]):
        say("no jobs yet; try: dagmaster run echo_test -i message=hello")
    elif not items:
        say("no jobs match; dagmaster jobs shows all")


@command("logs", "dagmaster logs JOB", "dagmaster logs JOB --node split__3", panel=LOOK)
async def logs(
    job_id: JobArgument,
    node: NodeOption = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """Print what a job's attempts said."""
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        lines = [line async for line in client.every_log(job_id, node)]
    if as_json or as_lines:
        tell_page([line.model_dump(mode="json") for line in lines], as_lines=as_lines)
        return
    for line in lines:
        more = "".join(f" {name}={value}" for name, value in (line.fields or {}).items())
        print(f"{line.at.astimezone():%H:%M:%S.%f}"[:-3] + f"  {line.node}#{line.attempt}  {line.message}{more}")
    if not lines:
        say("its attempts said nothing")


@command("timeline", "dagmaster job timeline JOB", "dagmaster job timeline JOB --node create_cog", of=job_app)
async def timeline(
    job_id: JobArgument,
    node: NodeOption = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """Show what happened to a job, in order."""
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        if node:
            events = (await client.node_events(job_id, node)).items
        else:
            events = [event async for event in client.every_event(job_id)]
    if as_json or as_lines:
        tell_page([event.model_dump(mode="json") for event in events], as_lines=as_lines)
        return
    rows: list[tuple[Any, ...]] = []
    for event in events:
        moved = f"{event.before} → {event.to}" if event.before and event.to else event.to or ""
        where = f"{event.node}#{event.attempt}" if event.node and event.attempt else event.node or ""
        rows.append((str(event.seq), f"{event.at.astimezone():%H:%M:%S.%f}"[:-3], where, event.kind, moved))
    show_table(("event", "at", "node", "what", "change"), rows)


@command(
    "nodes",
    "dagmaster job nodes JOB",
    "dagmaster job nodes JOB --children-of split --status FAILED",
    of=job_app,
)
async def nodes(
    job_id: JobArgument,
    parent: Annotated[
        str | None,
        typer.Option("--children-of", metavar="NODE", help="A fan-out.", autocompletion=completion.nodes),
    ] = None,
    node_status: NodeStatusOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many children at the most.")] = 100,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """Show the nodes of a job, or the children of a fan-out."""
    from dagmaster.cli.screen import duration
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        page = await client.nodes(job_id, parent, node_status, limit=limit)
    found = [(name, each) for name, each in page.nodes.items()] + [(each.node, each) for each in page.children]
    if as_json or as_lines:
        items = [{"node": name, **each.model_dump(mode="json")} for name, each in found]
        tell_page(items, as_lines=as_lines, following=page.next)
        return
    rows = []
    for name, each in found:
        spent = (each.finished_at - each.started_at).total_seconds() if each.finished_at and each.started_at else None
        note = f"{each.error.code}: {each.error.message}" if each.error else ""
        rows.append((name, status_cell(each.status), duration(spent), str(each.attempt or ""), note))
    show_table(("node", "status", "time", "attempt", "note"), rows)
    if page.next is not None:
        say(f"the first {limit}; there are more: --limit")


@command("progress", "dagmaster job progress JOB", of=job_app)
async def progress(
    job_id: JobArgument, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Say how far a job is, in one line."""
    from dagmaster.cli.screen import duration
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        now = await client.progress(job_id)
    if as_json:
        tell(now.model_dump(mode="json"))
    else:
        left = f", about {duration(now.eta_seconds)} left" if now.eta_seconds is not None else ""
        print(f"{now.status}  {now.percent:.0f} %{left}  {now.message if now.status == 'RUNNING' else ''}".rstrip())


@command("replay", "dagmaster replay JOB", panel=LOOK)
async def replay(
    job_id: JobArgument, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> int:
    """Rebuild a job from its events and compare it with its tables; exits with 1 when they differ."""
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        found = await client.replay(job_id)
    if as_json:
        tell(found.model_dump(mode="json"))
    elif found.equal:
        print(f"equal: {found.events} events lead to {found.status} and to the {found.nodes} nodes as they stand")
    else:
        rows = (
            (each.node or "(job)", each.what, str(each.by_events), str(each.by_tables)) for each in found.differences
        )
        show_table(("node", "what", "by its events", "by its tables"), rows)
        say("the history and the state differ" + ("; these are the first of them" if found.more else ""))
    return exits.COMPLETED if found.equal else exits.FAILED


def moment(text: str, now: datetime) -> datetime:
    """A point in time as people give it: so long ago, or a date and time of this zone. Errors: UsageInvalid."""
    count, unit = text[:-1], UNITS.get(text[-1:])
    try:
        if unit and count.isascii() and count.isdigit():
            return now - timedelta(**{unit: int(count)})
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
    except (ValueError, OverflowError):
        fix = "Write it as 30m, 2h, 7d, or as 2026-03-01T12:00."
        raise UsageInvalid(problem=f"`{text}` is no point in time.", where="--since", remedy=fix) from None


def in_order(lines: list[JobLine], order: Order) -> list[JobLine]:
    """The newest jobs, sorted; of equal ones the newer first."""
    if order == "newest":
        return lines
    if order == "oldest":
        return lines[::-1]
    if order == "slowest":
        return sorted(lines, key=lambda line: -(_seconds(line) or 0))
    return sorted(lines, key=lambda line: line.status if order == "status" else line.workflow_id)


async def _look_through(
    client: Client, limit: int, began: datetime | None, correlation_id: str | None, wanted: dict[str, Any]
) -> JobPage:
    """The newest jobs that pass filters which the API does not know; from one that is too old on, none is newer."""
    from dagmaster.contract.api import JobPage

    found: list[JobLine] = []
    seen = 0
    async for line in client.every_job(limit=PAGE_MAX if correlation_id else limit, **wanted):
        seen += 1
        if len(found) == limit or (began is not None and line.created_at < began):
            break
        if correlation_id in (None, line.correlation_id):
            found.append(line)
        if seen == LOOKED_AT_MAX:
            say(f"looked through the newest {LOOKED_AT_MAX:,} jobs; --since, --status and --workflow narrow it")
            break
    return JobPage(items=found)


def _row(line: JobLine) -> tuple[Any, ...]:
    from dagmaster.cli.screen import duration

    return (
        line.job_id,
        f"{line.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        status_cell(line.status),
        duration(_seconds(line)),
        line.workflow_id,
        "  ".join(filter(None, [line.error.code if line.error else None, line.correlation_id])),
    )


def _seconds(line: JobLine) -> float | None:
    """How long it took, or has taken so far."""
    if line.started_at is None:
        return None
    return ((line.finished_at or datetime.now(UTC)) - line.started_at).total_seconds()
