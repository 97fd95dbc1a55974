"""How a job looks: one live screen on a terminal, a line per change elsewhere, a table when it has ended, and JSON."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from dagmaster.cli.talk import STATUS_COLOURS, Cell, say
from dagmaster.contract.api import ChildLine, JobBody, NodeBody

if TYPE_CHECKING:  # rich is read only where there is a terminal
    from rich.console import Group
    from rich.live import Live

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
ENDED = ("COMPLETED", "FAILED", "SKIPPED", "CANCELLED")
BAR_WIDTH = 24
NARROW = 60
"""Below this width the live screen has no bars."""
RATE_SECONDS = 20.0
"""How far back a rate looks."""
RATE_SECONDS_MIN = 2.0


def duration(seconds: float | None) -> str:
    """A duration as people say it: 40 ms, 0.4 s, 12 s, 2 m 14 s, 1 h 03 m."""
    if seconds is None:
        return ""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


class Rate:
    """How fast something is done, from what was seen of it lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: float, done: int) -> None:
        self._seen.append((now, done))
        while now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        """None until enough was seen."""
        (began, first), (now, done) = self._seen[0], self._seen[-1]
        return (done - first) / (now - began) if now - began >= RATE_SECONDS_MIN and done > first else None


class JobScreen:
    """Shows a job as it moves; use as a context manager and feed it every reading."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Live | None = None
        self._rates: dict[str, Rate] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        if not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)

    def __enter__(self) -> JobScreen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def is_live(self) -> bool:
        """Whether it has room for more than what has changed."""
        return self._live is not None

    def show(self, job: JobBody, failures: Sequence[ChildLine] = ()) -> None:
        if self._live:
            for name, node in job.nodes.items():
                if node.children:
                    self._rates.setdefault(name, Rate()).look(monotonic(), ended_children(node))
            view = job_view(job, self._live.console.width, self._rates, failures)
            self._live.update(view, refresh=True)
        elif not self._quiet:
            for line in self._changes(job):
                say(line)

    def _changes(self, job: JobBody) -> Iterator[str]:
        for name, node in tasks_of(job):
            now = (node.status, node.attempt)
            if node.status == "PENDING" or self._seen.get(name) == now:
                continue
            self._seen[name] = now
            spent = f" in {duration(node.duration_seconds)}" if node.finished_at and node.duration_seconds else ""
            yield f"{name}: {node.status.lower()}{spent}{': ' + _fault(node) if node.error else ''}"


def tasks_of(job: JobBody) -> list[tuple[str, NodeBody]]:
    """The nodes that do something."""
    return [(name, node) for name, node in job.nodes.items() if node.type not in ("start", "end")]


def ended_children(node: NodeBody) -> int:
    return sum(count for status, count in (node.children or {}).items() if status in ENDED)


def look_of(node: NodeBody) -> tuple[str, str]:
    """Mark and colour; what completed in spite of failed children is not green."""
    if node.status == "COMPLETED" and (node.children or {}).get("FAILED"):
        return "!", "yellow"
    return MARKS[node.status], STATUS_COLOURS[node.status]


def job_view(job: JobBody, width: int, rates: dict[str, Rate], failures: Sequence[ChildLine] = ()) -> Group:
    """One line for the job and one per node; children of fan-outs as counts, with some of those that failed."""
    from rich.console import Group
    from rich.text import Text

    head = f"  {job.status.lower()}  {job.percent:.0f} %  {duration(job.duration_seconds)}"
    lines = [Text.assemble((job.workflow_id, "bold"), head)]
    tasks = tasks_of(job)
    name_width = max((len(name) for name, _ in tasks), default=0)
    for name, node in tasks:
        mark, style = look_of(node)
        parts: list[Any] = [(f"{mark} ", style), f"{name:<{name_width}}  ", (f"{node.status.lower():<10}", style)]
        if width >= NARROW:
            parts += [f"{duration(node.duration_seconds):>9}  ", *_bar(node)]
        lines.append(Text.assemble(*parts, "  " + _live_note(node, rates.get(name))))
    lines += [Text(f"✗ {child.node}  {_said(child)}", "red") for child in failures]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)


def _bar(node: NodeBody) -> tuple[tuple[str, str], ...]:
    if node.children:
        share = ended_children(node) / max(1, sum(node.children.values()))
    elif node.status == "RUNNING":
        share = node.progress.percent / 100 if node.progress else 0
    else:
        return ((" " * BAR_WIDTH, ""),)
    done = round(share * BAR_WIDTH)
    return ("━" * done, look_of(node)[1]), ("━" * (BAR_WIDTH - done), "dim")


def _live_note(node: NodeBody, rate: Rate | None) -> str:
    if node.error:
        return _fault(node)
    if node.children:
        speed = rate.per_second if rate and node.status not in ENDED else None
        left = sum(node.children.values()) - ended_children(node)
        return _counts(node) + (f", {speed:.3g}/s, {duration(left / speed)} left" if speed and left else "")
    if node.status == "READY" and node.not_before:
        return f"attempt {node.attempt} failed; the next starts at {node.not_before.astimezone():%H:%M:%S}"
    if node.status == "RUNNING" and node.progress:
        return f"{node.progress.percent:.0f} %  {node.progress.message}"
    return ""


def job_rows(job: JobBody) -> Iterator[tuple[str | Cell, ...]]:
    """The job as a table: its nodes with status, time, attempt and note."""
    for name, node in tasks_of(job):
        mark, style = look_of(node)
        yield (
            name,
            Cell(f"{mark} {node.status.lower()}", style),
            duration(node.duration_seconds),
            str(node.attempt) if node.attempt else "",
            _counts(node) if node.children else _fault(node) if node.error else "",
        )


def _counts(node: NodeBody) -> str:
    return ", ".join(f"{count:,} {status.lower()}" for status, count in sorted((node.children or {}).items()))


def _fault(node: NodeBody) -> str:
    return f"{node.error.code}: {node.error.message}" if node.error else ""


def _said(child: ChildLine) -> str:
    return f"{child.error.code}: {child.error.message}" if child.error else child.status.lower()


def json_progress(job: JobBody) -> dict[str, Any]:
    """How far the job is, as a line of `--jsonl`."""
    return {
        "event": "progress",
        "job_id": job.job_id,
        "status": job.status,
        "percent": round(job.percent, 1),
        "nodes": {name: node.status for name, node in job.nodes.items()},
        "children": {name: node.children for name, node in job.nodes.items() if node.children},
    }


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
