"""Random workflows, as documents that production code reads and compiles; a number names each for ever."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.store import EngineStore
from dagmaster.dag.compile import compile_graph
from dagmaster.dag.definition import from_document
from dagmaster.dag.graph import Graph
from dagmaster.engine.definitions import Definitions

COUNT = 500
"""So many different workflows there are: compiling one takes as long as a tenth of a run."""
TIMEOUT_SECONDS = 40.0
"""What a handler may take when its node says nothing."""

HANDLERS = {
    name: HandlerSpec(
        name=name,
        queue=queue,
        isolation="inline",
        timeout_seconds=TIMEOUT_SECONDS,
        params_schema={},
        output_schema={},
    )
    for name, queue in (("work", "light"), ("toil", "heavy"))
}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A compiled workflow and its document."""

    number: int
    document: Document
    graph: Graph
    values_from: dict[str, str]
    """Tasks that are given the value which another task returned, by name."""
    items_from: dict[int, str | None]
    """Fan-outs by ordinal, and the task that returned their items; None for those of the inputs."""
    unknown_handler: bool


@lru_cache(maxsize=COUNT)
def workflow(number: int) -> Workflow:
    document = _Sketch(number).document()
    graph = compile_graph(from_document(document))
    nodes = document["nodes"]
    values = {
        name: reference(node["params"]["from"]) for name, node in nodes.items() if "from" in node.get("params", {})
    }
    fans = {
        graph.by_id[name]: None if "inputs" in node["source"] else reference(node["source"])
        for name, node in nodes.items()
        if node["type"] == "fan_out"
    }
    unknown = any("nowhere" in (node.get("handler"), node.get("task", {}).get("handler")) for node in nodes.values())
    return Workflow(number, document, graph, values, fans, unknown)


def reference(expression: str) -> str:
    """The node whose output the expression reads."""
    return expression.split("nodes.")[1].split(".")[0]


def inputs(rng: random.Random) -> dict[str, Any]:
    width = rng.choice((0, 1, 2, 3, 5, 8, 13))
    return {"items": [f"item-{number}" for number in range(width)], "flag": rng.random() < 0.7}


class Compiled(Definitions):
    """The definitions of one orchestrator: asked of its store as in production, compiled once per process."""

    async def graphs(self, store: EngineStore, digests: Iterable[str]) -> dict[str, Graph]:
        missing = sorted(set(digests) - self._graphs.keys())
        if missing:
            for digest, document in (await store.definitions(missing)).items():
                if document:
                    self._graphs[digest] = workflow(document["version"] - 1).graph
        return {digest: self._graphs[digest] for digest in digests if digest in self._graphs}


class _Sketch:
    """One random workflow under construction."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(f"workflow/{number}")
        self.number = number
        self.nodes: dict[str, Document] = {"start": {"type": "start"}}
        self.open: list[str] = ["start"]
        """Nodes that others may wait for."""

    def document(self) -> Document:
        rng = self.rng
        kinds = [self.task] * 6 + [self.fan] * 3 + [self.conditional] * 2
        for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 5))):
            rng.choice(kinds)()
        leaves = sorted(set(self.open[1:]) - {other for node in self.nodes.values() for other in before(node)})
        self.nodes["end"] = {"type": "end", "depends_on": {rng.choice(("any_of", "all_of")): leaves}}
        return {
            "workflow_id": "simulated",
            "version": self.number + 1,
            "inputs": {"items": {"type": "array"}, "flag": {"type": "boolean"}},
            "nodes": self.nodes,
        }

    def name(self) -> str:
        return f"n{len(self.nodes)}"

    def behind(self) -> tuple[Document, str | None]:
        """What a new node waits for, and the task whose output it may read, if it is certain to have one."""
        rng = self.rng
        count = min(len(self.open), rng.choice((1, 1, 1, 2, 3)))
        others = sorted(rng.sample(self.open, count))
        kind = "all_of" if count == 1 else rng.choice(("all_of", "any_of"))
        alone = count == 1 and self.nodes[others[0]]["type"] == "task"
        return {"depends_on": {kind: others}}, others[0] if alone else None

    def task(self) -> str:
        name, rng = self.name(), self.rng
        node, source = self.behind()
        if source is not None and rng.random() < 0.15:
            node["when"] = f"nodes.{source}.output.pick > 0"
        elif rng.random() < 0.1:
            node["when"] = "inputs.flag"
        self.nodes[name] = {"type": "task", **node, **self.work(source)}
        self.open.append(name)
        return name

    def work(self, source: str | None) -> Document:
        """What a task or a child runs."""
        rng = self.rng
        params: Document = {}
        if source is not None:
            params["from"] = f"{{{{ nodes.{source}.output.value }}}}"
            if rng.random() < 0.02:
                params["broken"] = f"{{{{ nodes.{source}.output.missing }}}}"
        handler = "nowhere" if rng.random() < 0.01 else rng.choice(("work", "work", "work", "toil"))
        node: Document = {"handler": handler, "params": params, "retry": self.retry()}
        if rng.random() < 0.3:
            node["timeout_seconds"] = rng.choice((20.0, 30.0, 60.0))
        if rng.random() < 0.08:
            node["queue_timeout_seconds"] = rng.choice((5.0, 15.0, 60.0))
        return node

    def retry(self) -> Document:
        rng = self.rng
        return {
            "max_attempts": rng.choice((0, 1, 2, 3, 5)),
            "backoff": rng.choice(("fixed", "linear", "exponential")),
            "initial_delay_seconds": rng.choice((0.5, 2.0, 5.0)),
            "max_delay_seconds": 10.0,
            "jitter": rng.choice((0.0, 0.0, 0.5)),
        }

    def fan(self) -> None:
        """A fan-out, with its fan-in most of the time."""
        rng, name = self.rng, self.name()
        node, source = self.behind()
        items = "{{ inputs.items }}"
        if source is not None and rng.random() < 0.6:
            items = f"{{{{ nodes.{source}.output.{'items' if rng.random() < 0.95 else 'pick'} }}}}"
        work = self.work(None)
        work["params"] = {"item": "{{ item }}", "index": "{{ index }}"}
        self.nodes[name] = {"type": "fan_out", **node, "source": items, "task": work}
        if rng.random() < 0.5:
            self.nodes[name]["max_parallel"] = rng.choice((1, 2, 3, 5))
        self.nodes[name]["failure_policy"] = rng.choice(
            ("fail_fast", "collect_errors", "collect_errors", {"threshold": 1}, {"threshold": "40%"})
        )
        if rng.random() < 0.1:
            self.open.append(name)
            return
        merge = self.name()
        aggregation = rng.choice(("collect", "collect", "collect", "count", "sum", "first", "last"))
        self.nodes[merge] = {"type": "fan_in", "aggregation": aggregation, "depends_on": {"all_of": [name]}}
        self.open.append(merge)

    def conditional(self) -> None:
        """A choice by what a task returned, with a task behind each branch."""
        tasks = [other for other in self.open if self.nodes[other]["type"] == "task"]
        if not tasks:
            self.task()
            return
        name, source = self.name(), self.rng.choice(tasks)
        self.nodes[name] = {
            "type": "conditional",
            "depends_on": {"all_of": [source]},
            "condition_field": f"nodes.{source}.output.pick",
        }
        targets = []
        for _ in range(3):
            target = self.name()
            self.nodes[target] = {"type": "task", **self.work(None)}
            self.open.append(target)
            targets.append(target)
        tests: tuple[Document, ...] = ({"condition": "== 0"}, {"condition": "< 2"}, {"default": True})
        self.nodes[name]["branches"] = [
            {"name": word, "next": [target], **test}
            for word, target, test in zip(("zero", "one", "more"), targets, tests, strict=True)
        ]


def before(node: Document) -> Iterator[str]:
    """The nodes that a node says it waits for."""
    waits: dict[str, list[str]] = node.get("depends_on", {})
    for names in waits.values():
        yield from names
