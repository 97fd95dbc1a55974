"""How a job looks on a terminal: one live screen, or a line per change where there is no terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dagmaster.contract.api import JobBody, NodeBody

STYLES = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "FAILED": "red",
    "CANCELLED": "magenta",
    "SKIPPED": "dim",
    "DISPATCHED": "yellow",
    "READY": "yellow",
    "WAITING": "cyan",
    "PENDING": "dim",
}
MARKS = {
    "COMPLETED": "✓",
    "RUNNING": "▸",
    "FAILED": "✗",
    "CANCELLED": "■",
    "SKIPPED": "-",
    "DISPATCHED": "…",
    "READY": "↻",
    "WAITING": "◦",
    "PENDING": "·",
}
BAR_WIDTH = 24


def duration(seconds: float | None) -> str:
    """A duration as people say it: 0.4 s, 12 s, 2 m 14 s, 1 h 03 m."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def size(count: float) -> str:
    """A size as people say it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


class JobScreen:
    """Shows a job as it moves; use as a context manager and feed it every reading."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._seen: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> JobScreen:
        if self._live and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and not self._quiet:
            self._live.stop()

    def show(self, job: JobBody) -> None:
        if self._quiet:
            return
        if self._live:
            self._live.update(job_view(job), refresh=True)
        else:
            self._say_changes(job)

    def _say_changes(self, job: JobBody) -> None:
        for name, node in job.nodes.items():
            if (
                node.type in ("start", "end")
                or node.status == "PENDING"
                or self._seen.get(name) == (node.status, node.attempt)
            ):
                continue
            self._seen[name] = (node.status, node.attempt)
            spent = (
                f" in {duration(node.duration_seconds)}"
                if node.finished_at and node.duration_seconds is not None
                else ""
            )
            why = f": {node.error.code} {node.error.message}" if node.error else ""
            print(f"{name}: {node.status.lower()}{spent}{why}", file=sys.stderr, flush=True)


def job_view(job: JobBody) -> Group:
    """One line per node and one for the job; children of fan-outs as counts."""
    table = Table.grid(padding=(0, 2))
    for name, node in job.nodes.items():
        if node.type not in ("start", "end"):
            table.add_row(*_node_row(name, node))
    head = Text.assemble(
        (job.workflow_id, "bold"), f"  {job.status.lower()}  {job.percent:.0f} %  {duration(job.duration_seconds)}"
    )
    return Group(head, table)


def _node_row(name: str, node: NodeBody) -> tuple[Any, ...]:
    style = STYLES[node.status]
    bar: Any = ""
    note = ""
    if node.children:
        done = node.children.get("COMPLETED", 0)
        bar = ProgressBar(total=max(1, sum(node.children.values())), completed=done, width=BAR_WIDTH)
        note = ", ".join(f"{count} {status.lower()}" for status, count in node.children.items())
    elif node.status == "RUNNING":
        bar = ProgressBar(total=100, completed=node.progress.percent if node.progress else 0, width=BAR_WIDTH)
        note = node.progress.message if node.progress else ""
    if node.error:
        note = f"{node.error.code} {node.error.message}"
    if node.status == "READY" and node.not_before:
        note = f"attempt {node.attempt} failed; the next starts at {node.not_before:%H:%M:%S}"
    return (
        Text(MARKS[node.status], style),
        name,
        Text(node.status.lower(), style),
        duration(node.duration_seconds),
        bar,
        note,
    )


def job_table(job: JobBody) -> Table:
    """The finished job: nodes with durations."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("node", "status", "time", "attempt", "note"):
        table.add_column(column, justify="right" if column in ("time", "attempt") else "left")
    for name, node in job.nodes.items():
        if node.type in ("start", "end"):
            continue
        note = f"{node.error.code}: {node.error.message}" if node.error else ""
        if node.children:
            note = ", ".join(f"{count} {status.lower()}" for status, count in node.children.items())
        table.add_row(
            name,
            Text(f"{MARKS[node.status]} {node.status.lower()}", STYLES[node.status]),
            duration(node.duration_seconds),
            str(node.attempt) if node.attempt else "",
            note,
        )
    return table


def json_document(job: JobBody) -> dict[str, Any]:
    """The job as `--json` prints it; this shape is a contract with scripts."""
    return {
        "job_id": job.job_id,
        "workflow_id": job.workflow_id,
        "workflow_version": job.workflow_version,
        "status": job.status,
        "nodes": {
            name: {
                "status": node.status,
                "attempt": node.attempt,
                "duration_seconds": node.duration_seconds,
                "output": node.output,
                "error": node.error.model_dump() if node.error else None,
            }
            for name, node in job.nodes.items()
        },
        "result": job.result,
        "error": job.error.model_dump() if job.error else None,
    }
