"""Errors as application/problem+json, with one table from error class to HTTP status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dagmaster.contract.api import Problem
from dagmaster.errors import (
    DagmasterError,
    DatabaseUnreachable,
    IdempotencyConflict,
    MethodNotAllowed,
    NotFound,
    Refused,
    RequestInvalid,
    RequestRefused,
    StaleState,
    WorkflowUnknown,
)

STATUSES: dict[type[DagmasterError], int] = {
    WorkflowUnknown: 404,
    IdempotencyConflict: 409,
    Refused: 422,
    NotFound: 404,
    StaleState: 409,
    DatabaseUnreachable: 503,
}
PLAIN: dict[int, type[DagmasterError]] = {404: NotFound, 405: MethodNotAllowed}
"""What the framework refuses itself; everything else of it is RequestRefused."""
RETRY_AFTER_SECONDS = 5
MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger("dagmaster.web")


def status_of(error: DagmasterError, own: Mapping[type[DagmasterError], int] = MappingProxyType({})) -> int:
    """The status of the nearest class in the table; 500 for what is nobody's request's fault."""
    table = {**STATUSES, **own}
    return next((table[cls] for cls in type(error).__mro__ if cls in table), 500)


def problem_of(error: DagmasterError, status: int) -> Problem:
    body = error.as_dict()
    return Problem(
        **body,
        type=f"urn:dagmaster:error:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        detail=error.message,
        problems=faults_of(error),
    )


def faults_of(error: DagmasterError) -> list[dict[str, Any]]:
    """All faults, when the error stands for several: of inputs, or of a definition."""
    return [*error.facts.get("problems", []), *(finding.as_dict() for finding in error.facts.get("findings", []))]


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The problem document as an answer."""
    retry = {"Retry-After": str(RETRY_AFTER_SECONDS)} if problem.status == 503 else {}
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={**retry, **(headers or {})},
    )


def document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The app's OpenAPI document, with problem documents under their own media type."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        described = plain()
        operations = [operation for path in described["paths"].values() for operation in path.values()]
        for operation in operations:
            for answer in operation["responses"].values():
                content = answer.get("content", {})
                if content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/Problem"):
                    content[MEDIA_TYPE] = content.pop("application/json")
        return described

    return openapi


def install(
    app: FastAPI, *, malformed: int = 422, statuses: Mapping[type[DagmasterError], int] = MappingProxyType({})
) -> None:
    """Let every error of the app leave as a problem document.

    `statuses` are those of classes that this surface knows of, `malformed` that of requests no model accepts.
    """
    app.openapi = document(app)  # type: ignore[method-assign]  # the way FastAPI offers

    @app.exception_handler(DagmasterError)
    async def known(request: Request, error: DagmasterError) -> JSONResponse:
        return answer(problem_of(error, status_of(error, statuses)))

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [_fault(fault) for fault in error.errors()]
        first = faults[0] if faults else {"pointer": "", "message": "unreadable"}
        refused = RequestInvalid(place=first["pointer"] or "the body", problem=first["message"], problems=faults)
        said = problem_of(refused, malformed)
        return answer(said.model_copy(update={"detail": f"{len(faults)} fault(s) in the request"}))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        refused = PLAIN.get(error.status_code, RequestRefused)(
            str(error.detail), remedy="/openapi.json lists what there is."
        )
        said = problem_of(refused, error.status_code)
        said = said.model_copy(update={"detail": f"{request.method} {request.url.path}"})
        return answer(said, error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("request failed", method=request.method, path=request.url.path, exc_info=error)
        return answer(problem_of(DagmasterError(why=type(error).__name__), 500))


def _fault(fault: dict[str, Any]) -> dict[str, str]:
    place = [str(part) for part in fault["loc"] if part != "body"]
    return {"pointer": "".join(f"/{part}" for part in place), "code": str(fault["type"]), "message": str(fault["msg"])}
