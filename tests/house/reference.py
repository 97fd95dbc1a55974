"""Writes the generated pages of the reference: `python tests/house/reference.py`; a test keeps them current."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from typer.main import get_command

import dagmaster
from dagmaster.api.app import create_app
from dagmaster.api.authority import Authority
from dagmaster.cli import exits
from dagmaster.cli.commands import app
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


def command_line() -> str:
    """Every command with its arguments and options, and what exit codes mean."""
    lines = ["# Command line", "", NOTE, "Results go to stdout, everything else to stderr.", ""]
    lines += ["| exit code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in sorted(exits.MEANINGS.items())]
    for path, command in sorted(_commands(get_command(app), ())):
        lines += ["", f"## dagmaster {path}", "", command.help or "", ""]
        usage = " ".join(["dagmaster", path, *(_metavar(p) for p in _arguments(command))])
        lines += ["```", f"{usage}{' [OPTIONS]' if _options(command) else ''}", "```"]
        rows = [f"| `{_metavar(p)}` | {p.help or ''} |" for p in _arguments(command)]
        rows += [f"| `{', '.join(p.opts)}` | {p.help or ''} |" for p in _options(command)]
        lines += ["", "| | |", "|---|---|", *(row.replace("\n", " ") for row in rows)] if rows else []
    return "\n".join(lines) + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _commands(each, (*path, name))
    else:
        yield " ".join(path), command


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _arguments(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "argument"]


def _options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and p.name != "help"]


def http_api() -> str:
    """Every route of the authority, from its OpenAPI document."""
    document = create_app(Authority(cast("Any", None), {}, ring_inbox=lambda: None)).openapi()
    lines = ["# HTTP API", "", NOTE]
    lines += [
        "The document itself is at `/openapi.json`; errors are problem+json with a `code` of [errors](errors.md).",
        "",
    ]
    for path, methods in sorted(document["paths"].items()):
        for method, route in methods.items():
            lines += [f"## {method.upper()} {path}", "", route.get("summary", ""), *_described(route), ""]
            rows = [
                f"| `{p['name']}` | {p['in']} | {_kind(p.get('schema', {}))} | {'yes' if p.get('required') else ''} "
                f"| {p.get('description', '')} |"
                for p in route.get("parameters", [])
            ]
            if rows:
                lines += ["| parameter | in | type | required | |", "|---|---|---|---|---|", *rows, ""]
            if body := route.get("requestBody"):
                lines += [f"Body: {_body(body['content'])}.", ""]
            answers = [
                f"| {code} | {answer['description']} | {_body(answer.get('content', {}))} |"
                for code, answer in sorted(route["responses"].items())
            ]
            lines += ["| answer | when | body |", "|---|---|---|", *answers, ""]
    lines += ["## Bodies", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" not in schema:
            continue
        needed = schema.get("required", [])
        lines += [f"### {name}", "", (schema.get("description") or "").split("\n")[0], ""]
        lines += ["| field | type | required | |", "|---|---|---|---|"]
        for field, each in schema["properties"].items():
            what = (each.get("description") or "").replace("\n", " ").replace("|", "\\|")
            lines.append(f"| `{field}` | {_kind(each)} | {'yes' if field in needed else ''} | {what} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _described(route: dict[str, Any]) -> list[str]:
    text = (route.get("description") or "").strip()
    return ["", text] if text else []


def _kind(schema: dict[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(option) for option in options)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _body(content: dict[str, Any]) -> str:
    return "; ".join(f"{_kind(each.get('schema', {}))} as `{kind}`" for kind, each in content.items())


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors,
    "settings.md": settings,
    "states.md": states,
    "handlers.md": handlers,
    "command-line.md": command_line,
    "http-api.md": http_api,
}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), "utf-8")
    sys.stdout.write(f"wrote {len(PAGES)} pages\n")
