"""Endpoints of workflows: list, show, versions, differences."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from dagmaster.api.authority import Authority
from dagmaster.contract.api import (
    CheckedWorkflow,
    CheckWorkflow,
    DifferenceBody,
    VersionLine,
    VersionPage,
    WorkflowBody,
    WorkflowLine,
    WorkflowPage,
)
from dagmaster.dag.check import check
from dagmaster.dag.definition import Definition, load
from dagmaster.dag.difference import differences
from dagmaster.dag.inputs import input_schema
from dagmaster.dag.library import available, find, read
from dagmaster.db import jobs
from dagmaster.errors import NotFound, WorkflowInvalid


def workflow_routes(authority: Authority) -> APIRouter:
    """The routes below /api/v1/workflows."""
    routes = APIRouter(prefix="/workflows", tags=["workflows"])

    @routes.get("", summary="All known workflows")
    async def list_workflows() -> WorkflowPage:
        return WorkflowPage(
            items=[_line(definition) for definition in map(read, available(authority.workflow_folders).values())]
        )

    @routes.post("/check", summary="Check a definition before anything runs")
    async def check_workflow(body: CheckWorkflow) -> CheckedWorkflow:
        try:
            definition = load(body.definition, body.file_name)
            findings = [*definition.warnings, *check(definition, authority.handlers)]
        except WorkflowInvalid as error:
            findings = error.facts["findings"]
        valid = not any(finding.severity == "error" for finding in findings)
        return CheckedWorkflow(valid=valid, findings=[finding.as_dict() for finding in findings])

    @routes.get("/{workflow_id}", summary="One workflow")
    async def get_workflow(workflow_id: str) -> WorkflowBody:
        definition = find(workflow_id, authority.workflow_folders, paths=False)
        return WorkflowBody(
            **_line(definition).model_dump(), definition=definition.document, input_schema=input_schema(definition)
        )

    @routes.get("/{workflow_id}/versions", summary="Versions that jobs have used, newest first")
    async def versions(workflow_id: str) -> VersionPage:
        async with authority.pool.connection() as conn:
            found = await jobs.definition_versions(conn, workflow_id)
        return VersionPage(items=[VersionLine(digest=d, version=v, created_at=at) for d, v, at in found])

    @routes.get("/{workflow_id}/diff", summary="How two versions differ")
    async def diff(
        workflow_id: str,
        before: Annotated[str, Query(max_length=64, description="A digest, or its beginning.")],
        after: Annotated[
            str | None, Query(max_length=64, description="A digest; the present definition if absent.")
        ] = None,
    ) -> DifferenceBody:
        old, new = await _stored(authority, workflow_id, before), await _stored(authority, workflow_id, after)
        return DifferenceBody(before=old[0], after=new[0], differences=differences(old[1], new[1]))

    return routes


async def _stored(authority: Authority, workflow_id: str, digest: str | None) -> tuple[str, dict[str, Any]]:
    """Digest and document of a stored version, or of the present definition."""
    if digest is None:
        definition = find(workflow_id, authority.workflow_folders, paths=False)
        return definition.digest, definition.document
    async with authority.pool.connection() as conn:
        stored = [d for d, _, _ in await jobs.definition_versions(conn, workflow_id) if d.startswith(digest)]
        if len(stored) != 1:
            raise NotFound(noun=f"single version of {workflow_id}", id=digest)
        return stored[0], (await jobs.load_definitions(conn, stored))[stored[0]]


def _line(definition: Definition) -> WorkflowLine:
    return WorkflowLine(
        workflow_id=definition.workflow_id,
        name=definition.name,
        version=definition.version,
        description=definition.description,
        digest=definition.digest,
    )
