"""All commands, registered by the import of their files."""

from __future__ import annotations

import sys

from dagmaster.cli import looking, running
from dagmaster.cli.shared import app, end

__all__ = ["app", "looking", "main", "running"]


def main() -> None:
    """The console script."""
    end(app, as_json="--json" in sys.argv)
