"""The API as an ASGI application."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from dagmaster.api.authority import Authority
from dagmaster.api.health import health_routes, installed_version
from dagmaster.api.jobs import job_routes
from dagmaster.api.looks import job_look_routes, look_routes
from dagmaster.api.workflows import workflow_routes
from dagmaster.contract.api import Problem
from dagmaster.web import problems
from dagmaster.web.limits import BodyLimit

PREFIX = "/api/v1"
WHY = {
    400: "The request cannot be read",
    404: "There is no such thing",
    409: "The state of things does not allow it",
    413: "The body is too large",
    422: "What was given is refused",
    503: "The database does not answer; repeat it",
}
REFUSALS = {status: {"model": Problem, "description": why} for status, why in WHY.items()}


def create_app(authority: Authority) -> FastAPI:
    """All endpoints, their errors as problem documents, described at /openapi.json."""
    app = FastAPI(title="dagmaster", version=installed_version(), docs_url=None, redoc_url=None)
    problems.install(app)
    app.add_middleware(BodyLimit)
    versioned = APIRouter(prefix=PREFIX, responses=REFUSALS)  # type: ignore[arg-type]  # FastAPI's own type is wider
    versioned.include_router(job_routes(authority))
    versioned.include_router(job_look_routes(authority))
    versioned.include_router(look_routes(authority))
    versioned.include_router(workflow_routes(authority))
    app.include_router(versioned)
    app.include_router(health_routes(authority))
    return app
