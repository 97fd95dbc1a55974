"""A workflow definition: read from YAML, or from the normalised document that the database holds.

Reading looks at the form alone and reports all faults at once; what the parts mean to each other is the
business of `check`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dagmaster.dag.faults import explained
from dagmaster.dag.findings import Finding, errors, near_miss, refuse
from dagmaster.dag.model import INPUTS_MAX, NODE_MODELS, NODES_MAX, AnyNode, Defaults, Head, Input
from dagmaster.dag.normal_form import LATER_TYPES, NormalForm
from dagmaster.dag.yaml_source import BYTES_MAX, Path, Source, read_yaml, too_large

M = TypeVar("M", bound=BaseModel)
NODE_ID_MESSAGE = "letters, digits, `_` and `-`, not starting with `_`, at most 128"
INPUT_NAME_MESSAGE = "letters, digits, `_` and `-`, starting with a letter, at most 64"


@dataclass(frozen=True)
class Definition:
    """One version of a workflow. `document` is its whole content as plain JSON; the rest follows from it."""

    head: Head
    inputs: dict[str, Input]
    nodes: dict[str, AnyNode]
    document: dict[str, Any]
    source: Source
    origins: dict[Path, Path]
    warnings: tuple[Finding, ...] = ()

    @property
    def workflow_id(self) -> str:
        return self.head.workflow_id

    @property
    def name(self) -> str:
        return self.head.name or self.head.workflow_id

    @property
    def version(self) -> int:
        return self.head.version

    @property
    def description(self) -> str:
        return self.head.description

    @property
    def is_active(self) -> bool:
        return self.head.is_active

    @property
    def labels(self) -> dict[str, str]:
        return self.head.labels

    @property
    def defaults(self) -> Defaults:
        return self.head.defaults

    @cached_property
    def digest(self) -> str:
        return digest(self)

    def finding(self, code: str, message: str, path: Path = (), **more: Any) -> Finding:
        """A finding at the place where the value at `path` of the document was written."""
        return self.source.finding(code, message, origin(path, self.origins), **more)


def load(text: str | bytes, file_name: str) -> Definition:
    """Read a workflow file; `WorkflowInvalid` carries every fault of its form as `facts["findings"]`."""
    source = read_yaml(as_text(text, file_name) if isinstance(text, bytes) else text, file_name)
    refuse(source.findings)
    return _read(source)


def as_text(content: bytes, file_name: str) -> str:
    """The text of a workflow file. Errors: WorkflowInvalid for what is too long, or no text."""
    empty = Source(file_name, [])
    if len(content) > BYTES_MAX:
        refuse([too_large(empty)])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        fix = "save it as UTF-8 text"
        refuse([empty.finding("YAML_INVALID", "the file is not UTF-8 text", why=str(problem), fix=fix)])
        raise


def from_document(document: dict[str, Any]) -> Definition:
    """The definition whose `document` this is; no YAML is needed."""
    return _read(Source(f"{document.get('workflow_id', 'workflow')} (stored)", [], document))


def digest(definition: Definition) -> str:
    """The name of the content: sha256 of the canonical JSON of the document, independent of key order and layout."""
    text = json.dumps(
        _canonical(definition.document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Whole numbers are written alike, whether they came as 1.0, 1e0 or 1: Postgres does not keep the difference."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def origin(path: Path, origins: dict[Path, Path]) -> Path:
    """Where the value at `path` of the normal form was written."""
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return (*origins[path[:length]], *path[length:])
    return path


def _read(source: Source) -> Definition:
    if not isinstance(source.data, dict):
        refuse([source.finding("VALUE_INVALID", "a workflow is a mapping with workflow_id and nodes")])
    reader = _Reader(source)
    definition = reader.definition()
    refuse([*reader.form.findings, *reader.findings])
    assert definition is not None, "a document without errors has all of its parts"
    return definition


class _Reader:
    """Reads the parts one by one, so that a fault in one does not hide those in others."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.form = NormalForm(source)
        self.findings: list[Finding] = []

    def definition(self) -> Definition | None:
        data = self.form.document(self.source.data)
        inputs = self.inputs(data.pop("inputs", {}))
        nodes = self.nodes(data.pop("nodes", None))
        head = self.part(Head, data, (), extra_keys=("inputs", "nodes"))
        found = [*self.form.findings, *self.findings]
        if head is None or errors(found):
            return None
        document = _plain(head) | {"inputs": {name: _plain(item) for name, item in inputs.items()}}
        document["nodes"] = {name: _plain(node) for name, node in nodes.items()}
        return Definition(head, inputs, nodes, document, self.source, self.form.origins, tuple(found))

    def inputs(self, data: Any) -> dict[str, Input]:
        if not isinstance(data, dict):
            self.fault("VALUE_INVALID", "`inputs` is a mapping from name to declaration", ("inputs",))
            return {}
        if len(data) > INPUTS_MAX:
            self.fault("VALUE_INVALID", f"{len(data)} inputs; at most {INPUTS_MAX} are allowed", ("inputs",))
        found: dict[str, Input] = {}
        for name, body in data.items():
            path: Path = ("inputs", name)
            if not _is_name(name, 64) or not name[0].isalpha():
                self.fault("VALUE_INVALID", f"`{name}` is not an input name", path, on_key=True, why=INPUT_NAME_MESSAGE)
            if (read := self.part(Input, {} if body is None else body, path)) is not None:
                found[name] = read
        return found

    def nodes(self, data: Any) -> dict[str, AnyNode]:
        if not isinstance(data, dict) or not data:
            code = "KEY_MISSING" if data is None else "VALUE_INVALID"
            self.fault(code, "`nodes` is a mapping from id to node, and not empty", ("nodes",))
            return {}
        if len(data) > NODES_MAX:
            self.fault("VALUE_INVALID", f"{len(data)} nodes; at most {NODES_MAX} are allowed", ("nodes",))
        found: dict[str, AnyNode] = {}
        for name, body in data.items():
            if not _is_name(name, 128):
                self.fault(
                    "VALUE_INVALID", f"`{name}` is not a node id", ("nodes", name), on_key=True, why=NODE_ID_MESSAGE
                )
            if (read := self.node(name, body)) is not None:
                found[name] = read
        return found

    def node(self, name: str, body: Any) -> AnyNode | None:
        path: Path = ("nodes", name)
        if not isinstance(body, dict):
            self.fault("VALUE_INVALID", f"node `{name}` is a mapping of keys", path, on_key=True, node=name)
            return None
        data = self.form.node(name, body)
        kind = data["type"]
        if isinstance(kind, str) and kind in LATER_TYPES:
            self.fault(
                "NOT_YET_SUPPORTED", f"nodes of type {kind} are not yet supported", (*path, "type"), node=name,
                fix="leave this node out for now",
            )  # fmt: skip
            return None
        model = NODE_MODELS.get(kind) if isinstance(kind, str) else None
        if model is None:
            guess = near_miss(str(kind), NODE_MODELS)
            self.fault(
                "VALUE_INVALID", f"there is no node type {kind}", (*path, "type"), node=name,
                why="declared: " + ", ".join(NODE_MODELS), fix=f"write `{guess}`" if guess else None,
            )  # fmt: skip
            return None
        return self.part(model, data, path)

    def part(self, model: type[M], data: Any, path: Path, *, extra_keys: tuple[str, ...] = ()) -> M | None:
        """One validated part, or its faults among the findings."""
        try:
            return model.model_validate(data)
        except ValidationError as problem:
            node = str(path[1]) if path[:1] == ("nodes",) else None
            for fault in explained(problem, model, data, extra_keys):
                place = origin((*path, *fault.path), self.form.origins)
                self.findings.append(
                    self.source.finding(
                        fault.code, fault.message, place, on_key=fault.on_key, node=node, why=fault.why, fix=fault.fix
                    )
                )
            return None

    def fault(self, code: str, message: str, path: Path, **more: Any) -> None:
        self.findings.append(self.source.finding(code, message, path, **more))


def _plain(model: BaseModel) -> dict[str, Any]:
    """What was said, as JSON; what has its default value was not said."""
    found = model.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    kind = getattr(model, "type", None)
    return {"type": kind, **found} if kind is not None and "type" not in found else found


def _is_name(name: Any, length_max: int) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= length_max or name.startswith("_"):
        return False
    return name.isascii() and name.replace("_", "").replace("-", "x").isalnum()
