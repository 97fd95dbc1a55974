"""Writes the generated pages of the reference: `python tests/house/reference.py`; a test keeps them current."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import dagmaster
from dagmaster.contract.states import JOB_MOVES, NODE_MOVES
from dagmaster.dag.findings import CODES
from dagmaster.errors import all_errors
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
NOTE = "<!-- Written by tests/house/reference.py; change the code, then run it. -->\n"


def import_everything() -> None:
    """Rooms may bring error classes of their own, so all of them are read before errors are listed."""
    for module in pkgutil.walk_packages(dagmaster.__path__, "dagmaster."):
        import_module(module.name)


def errors() -> str:
    """Every error code, and every code of the static check."""
    import_everything()
    lines = [
        "# Errors",
        "",
        NOTE,
        "`dagmaster explain CODE` prints the same.",
        "",
        "| code | what | remedy | retry |",
        "|---|---|---|---|",
    ]
    for cls in sorted(all_errors(), key=lambda cls: cls.code):
        said = cls.explanation.replace("|", "\\|")
        lines.append(
            f"| `{cls.code}` | {said} | {cls.remedy.replace('|', '/')} | {'helps' if cls.retryable else 'does not help'} |"
        )
    lines += ["", "## Findings of the static check", "", "| code | what |", "|---|---|"]
    lines += [f"| `{code}` | {what} |" for code, what in sorted(CODES.items())]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Every setting."""
    lines = ["# Settings", "", NOTE, "| variable | what |", "|---|---|"]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `DAGMASTER_{name.upper()}` | {field.description} |")
    return "\n".join(lines) + "\n"


def states() -> str:
    """The state machines as diagrams."""
    parts = ["# States", "", NOTE, "The database refuses every other move."]
    for title, moves in (("Jobs", JOB_MOVES), ("Nodes", NODE_MOVES)):
        parts += ["", f"## {title}", "", "```mermaid", "stateDiagram-v2"]
        parts += [f"    {before} --> {after}" for before, afters in moves.items() for after in sorted(afters)]
        parts += ["```"]
    return "\n".join(parts) + "\n"


def handlers() -> str:
    """Every bundled handler with what it takes and returns."""
    parts = ["# Handlers", "", NOTE]
    for name, spec in bundled_specs().items():
        parts += ["", f"## `{name}`", "", f"{spec.summary} Queue `{spec.queue}`, version {spec.version}.", ""]
        parts += ["| takes | type | default |", "|---|---|---|", *_rows(spec.params_schema)]
        parts += [
            "",
            f"Returns: {', '.join(f'`{field}`' for field in spec.output_schema.get('properties', {})) or 'nothing'}.",
        ]
    return "\n".join(parts) + "\n"


def _rows(schema: dict[str, Any]) -> list[str]:
    needed = schema.get("required", [])
    return [
        f"| `{name}` | {_type(about)} | {'required' if name in needed else about.get('default')} |"
        for name, about in schema.get("properties", {}).items()
    ]


def _type(about: dict[str, Any]) -> str:
    if "anyOf" in about:
        return " or ".join(_type(part) for part in about["anyOf"])
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    return str(about.get("type", "any"))


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors,
    "settings.md": settings,
    "states.md": states,
    "handlers.md": handlers,
}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), "utf-8")
    sys.stdout.write(f"wrote {len(PAGES)} pages\n")
