"""The static check: everything that can be known before anything runs, all of it at once."""

from __future__ import annotations

from collections.abc import Mapping

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.dag.check_expressions import expression_findings
from dagmaster.dag.check_graph import graph_findings
from dagmaster.dag.check_handlers import handler_findings
from dagmaster.dag.check_inputs import input_findings
from dagmaster.dag.definition import Definition
from dagmaster.dag.edges import edges_of
from dagmaster.dag.findings import Finding, refuse


def check(definition: Definition, handlers: Mapping[str, HandlerSpec] | None = None) -> list[Finding]:
    """All findings, errors first and then by line. Without `handlers` what they declare is not checked."""
    edges = edges_of(definition)
    found = [
        *definition.warnings,
        *input_findings(definition),
        *graph_findings(definition, edges),
        *expression_findings(definition, edges, handlers),
        *handler_findings(definition, handlers),
    ]
    unique = list(dict.fromkeys(found))
    return sorted(
        unique, key=lambda one: (one.severity != "error", one.line or 0, one.column or 0, one.code, one.message)
    )


def require_sound(definition: Definition, handlers: Mapping[str, HandlerSpec] | None = None) -> list[Finding]:
    """The warnings of a definition that may run; `WorkflowInvalid` with all findings for one that may not."""
    found = check(definition, handlers)
    refuse(found)
    return found
