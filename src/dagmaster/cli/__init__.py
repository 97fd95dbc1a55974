"""The operator's client: data to stdout, talk and progress to stderr, exit codes and `--json` that scripts rely on."""

from dagmaster.cli.commands import main

__all__ = ["main"]
