"""Probes: does the process answer, may it get traffic, and how are its parts."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from time import gmtime, monotonic, strftime

import psycopg
from fastapi import APIRouter, Response

import dagmaster
from dagmaster.api.authority import Authority
from dagmaster.contract.api import Alive, Component, HealthBody
from dagmaster.db import jobs
from dagmaster.errors import DatabaseUnreachable


def build_date() -> str:
    """When this program was built or installed: the time of its version file, UTC."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(Path(dagmaster.__file__).stat().st_mtime))


def installed_version() -> str:
    """The version, as the installed distribution says it."""
    try:
        return str(metadata("dagmaster")["Version"])
    except PackageNotFoundError:
        return dagmaster.__version__


def health_routes(authority: Authority) -> APIRouter:
    """/livez, /readyz and /health, outside of the prefix."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="Does the process answer?")
    async def livez() -> Alive:
        return Alive(version=installed_version(), build_date=build_date())

    @routes.get("/readyz", summary="May it get traffic?", responses={503: {"model": HealthBody}})
    async def readyz(response: Response) -> HealthBody:
        return await _answer(authority, response, strict=False)

    @routes.get("/health", summary="The parts, one by one", responses={503: {"model": HealthBody}})
    async def health(response: Response) -> HealthBody:
        return await _answer(authority, response, strict=True)

    return routes


async def _answer(authority: Authority, response: Response, *, strict: bool) -> HealthBody:
    parts = await _components(authority)
    down = parts["database"].status == "down"
    degraded = any(part.status != "ok" for part in parts.values())
    response.status_code = 503 if down else 200
    return HealthBody(
        status="down" if down else "degraded" if degraded else "ok",
        version=installed_version(),
        build_date=build_date(),
        uptime_seconds=round(monotonic() - authority.started, 3),
        components=parts if strict else {"database": parts["database"]},
    )


async def _components(authority: Authority) -> dict[str, Component]:
    try:
        async with authority.pool.connection(timeout=3) as conn:
            seen = await jobs.health(conn)
    except (psycopg.Error, DatabaseUnreachable) as problem:
        return {"database": Component(status="down", detail=type(problem).__name__)}
    return {
        "database": Component(status="ok", detail=f"PostgreSQL {seen.postgres}"),
        "orchestrators": _counted(seen.orchestrators, "dagmaster orchestrator"),
        "workers": _counted(seen.workers, "dagmaster worker"),
    }


def _counted(count: int, command: str) -> Component:
    if count:
        return Component(status="ok", detail=f"{count} alive")
    return Component(status="degraded", detail=f"none alive; start one: {command}")
