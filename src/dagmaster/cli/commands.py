"""All commands, registered by the import of their files."""

from __future__ import annotations

from dagmaster.cli import looking, running
from dagmaster.cli.shared import app

__all__ = ["app", "looking", "main", "running"]


def main() -> None:
    """The console script."""
    app()
