"""All commands, registered by the import of their files."""

from __future__ import annotations

import sys

from typer.main import get_command

from dagmaster.cli import jobs, machine, running, services, workflows
from dagmaster.cli.exits import end_of
from dagmaster.cli.program import PANELS, app

__all__ = ["app", "jobs", "machine", "main", "running", "services", "workflows"]


app.registered_commands.sort(key=lambda each: PANELS.index(each.rich_help_panel))


def main() -> None:
    """The console script."""
    program = get_command(app)
    as_json = not {"--json", "--jsonl"}.isdisjoint(sys.argv)
    raise SystemExit(end_of(lambda: program.main(prog_name="dagmaster", standalone_mode=False), as_json=as_json))
