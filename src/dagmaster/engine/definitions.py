"""Compiled graphs by digest: a definition is read and compiled once per process."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from dagmaster.contract.store import EngineStore
from dagmaster.dag.compile import compile_graph
from dagmaster.dag.definition import from_document
from dagmaster.dag.graph import Graph

GRAPHS_MAX = 1_000

log = structlog.get_logger("dagmaster.engine")


class Definitions:
    """A bounded cache of graphs."""

    def __init__(self) -> None:
        self._graphs: dict[str, Graph] = {}

    async def graphs(self, store: EngineStore, digests: Iterable[str]) -> dict[str, Graph]:
        """The graph of each digest; one that cannot be read by this release is missing from the answer."""
        wanted = set(digests)
        missing = [digest for digest in wanted if digest not in self._graphs]
        if missing:
            for digest, document in (await store.definitions(missing)).items():
                try:
                    self._graphs[digest] = compile_graph(from_document(document))
                except Exception:
                    log.exception("definition unreadable", digest=digest)
            while len(self._graphs) > GRAPHS_MAX:
                self._graphs.pop(next(iter(self._graphs)))
        return {digest: self._graphs[digest] for digest in wanted if digest in self._graphs}
