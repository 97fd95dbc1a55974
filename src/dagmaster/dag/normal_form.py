"""Brings every written form of the language to the one form that the models know.

It only reshapes: what it does not recognise is left alone, and the models then say what is wrong. `origins`
remembers where a reshaped value was written, so that a finding still points at the author's own text.
"""

from __future__ import annotations

import re
from typing import Any

from dagmaster.dag.findings import Finding
from dagmaster.dag.yaml_source import Path, Source

LATER_KEYS = ("on_failure", "finally", "schedule")
LATER_TYPES = ("gate", "wait", "external", "workflow")
_VERSION = re.compile(r"v?([0-9]{1,9})(\.[0-9]+)*")


class NormalForm:
    """One document on its way to its normal form."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.origins: dict[Path, Path] = {}
        self.findings: list[Finding] = []

    def document(self, data: dict[Any, Any]) -> dict[Any, Any]:
        found = {key: value for key, value in data.items() if key not in LATER_KEYS}
        for key in LATER_KEYS:
            if key in data:
                self.later((key,), f"`{key}` is", on_key=True)
        if "version" in found:
            found["version"] = self.version(found["version"])
        if isinstance(found.get("defaults"), dict):
            found["defaults"] = self.timeout(found["defaults"], ("defaults",))
        for key in ("inputs", "nodes", "labels", "defaults"):
            if key in found and found[key] is None:
                found[key] = {}
        return found

    def version(self, value: Any) -> Any:
        text = str(value) if isinstance(value, float) else value
        if not isinstance(text, str) or not (match := _VERSION.fullmatch(text)):
            return value
        number = int(match.group(1))
        message = f"the version {value} was read as {number}"
        self.findings.append(
            self.source.finding(
                "VERSION_NORMALISED", message, ("version",), severity="warning",
                why="versions are whole numbers", fix=f"write version: {number}",
            )
        )  # fmt: skip
        return number

    def timeout(self, data: dict[Any, Any], path: Path) -> dict[Any, Any]:
        """`timeout` is another name of `timeout_seconds` in the defaults."""
        if "timeout" not in data or "timeout_seconds" in data:
            return data
        self.origins[(*path, "timeout_seconds")] = (*path, "timeout")
        return {("timeout_seconds" if key == "timeout" else key): value for key, value in data.items()}

    def node(self, name: str, data: dict[Any, Any]) -> dict[Any, Any]:
        path: Path = ("nodes", name)
        found = dict(data)
        kind = found.setdefault("type", "task")
        for key in ("next", "on_true", "on_false"):
            if key in found:
                found[key] = targets(found[key])
        if "depends_on" in found:
            found["depends_on"] = depends_on(found["depends_on"])
        if isinstance(found.get("task"), dict):
            found["task"] = with_params(found["task"])
        found = with_params(found)
        if kind == "task":
            return self.task(found, path)
        return self.conditional(found, path) if kind == "conditional" else found

    def task(self, found: dict[Any, Any], path: Path) -> dict[Any, Any]:
        """`condition` on a task is another name of `when`; a literal truth value is an expression too."""
        if "condition" in found and "when" not in found:
            found["when"] = found.pop("condition")
            self.origins[(*path, "when")] = (*path, "condition")
        if isinstance(found.get("when"), bool):
            found["when"] = str(found["when"]).lower()
        if found.get("cache") is True:
            self.later((*path, "cache"), "the node cache is", severity="warning", why="the node simply runs every time")
        return found

    def conditional(self, found: dict[Any, Any], path: Path) -> dict[Any, Any]:
        branches = found.get("branches")
        if isinstance(found.get("condition"), bool):
            found["condition"] = str(found["condition"]).lower()
        if isinstance(branches, dict) and set(branches) <= {True, False, "true", "false"}:
            del found["branches"]
            for key, goals in branches.items():
                side = f"on_{str(key).lower()}"
                found[side] = targets(goals)
                self.origins[(*path, side)] = (*path, "branches", key)
        elif isinstance(branches, list):
            found["branches"] = [self.branch(entry, number, path) for number, entry in enumerate(branches)]
        return found

    def branch(self, entry: Any, number: int, path: Path) -> Any:
        if not isinstance(entry, dict):
            return entry
        found = dict(entry)
        default = found.get("default") is True
        if default and "condition" in found:
            self.branch_fault("a default branch has no condition", number, path, "remove `condition`")
        if not default and "condition" not in found:
            self.branch_fault("a branch needs a condition, or `default: true`", number, path, 'add condition: "< 100"')
        if isinstance(found.get("condition"), bool | int | float):
            found["condition"] = f"== {str(found['condition']).lower()}"
        found.setdefault("name", "default" if default else f"branch_{number + 1}")
        if "next" in found:
            found["next"] = targets(found["next"])
        return found

    def branch_fault(self, message: str, number: int, path: Path, fix: str) -> None:
        place = (*path, "branches", number)
        self.findings.append(
            self.source.finding("BRANCH_INVALID", message, place, node=str(path[1]), fix=fix)
        )  # fmt: skip

    def later(self, path: Path, what: str, **more: Any) -> None:
        self.findings.append(
            self.source.finding(
                "NOT_YET_SUPPORTED", f"{what} not yet supported", path,
                node=str(path[1]) if path[0] == "nodes" else None, fix=f"remove `{path[-1]}`", **more,
            )
        )  # fmt: skip


def targets(value: Any) -> Any:
    """One id or a list of them, each once."""
    if isinstance(value, str):
        return [value]
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(dict.fromkeys(value))
    return value


def with_params(data: dict[Any, Any]) -> dict[Any, Any]:
    """`params:` with nothing behind it means no params."""
    return data | {"params": {}} if "params" in data and data["params"] is None else data


def depends_on(value: Any) -> Any:
    if value is None:
        return {}
    if isinstance(value, str | list):
        return {"all_of": targets(value)}
    if isinstance(value, dict):
        return {key: targets(goals) if key in ("all_of", "any_of") else goals for key, goals in value.items()}
    return value
