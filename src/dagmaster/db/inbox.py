"""Turns inbox rows into messages and back. What cannot be read raises ValueError with the reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from dagmaster.contract.messages import Cancel, Key, Message, Published, Report, Started, Submitted
from dagmaster.contract.store import InboxRow
from dagmaster.db.connect import Connection, dumps
from dagmaster.db.statements import SQL


def parse(row: InboxRow) -> Message:
    """The message that a row holds."""
    reader = READERS.get(row.kind)
    if reader is None:
        raise ValueError(f"there is no message kind {row.kind}")
    try:
        return reader(row.body)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"the {row.kind} message lacks or misuses {problem}") from problem


def _key(body: dict[str, Any]) -> Key:
    return Key(int(body["ordinal"]), int(body["item"]))


def _report(body: dict[str, Any]) -> Report:
    if body["outcome"] not in ("COMPLETED", "FAILED", "RELEASED"):
        raise ValueError(f"there is no outcome {body['outcome']}")
    return Report(
        key=_key(body),
        attempt=int(body["attempt"]),
        worker=str(body["worker"]),
        outcome=body["outcome"],
        output=body.get("output"),
        error=body.get("error"),
        effects=tuple(_effect(effect) for effect in body.get("effects", ())),
        started_at=datetime.fromisoformat(body["started_at"]) if body.get("started_at") else None,
    )


def _effect(effect: dict[str, Any]) -> dict[str, Any]:
    return {"kind": str(effect["kind"]), "body": effect["body"]}


READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "submitted": lambda body: Submitted(),
    "started": lambda body: Started(
        _key(body),
        int(body["attempt"]),
        str(body["worker"]),
        datetime.fromisoformat(body["at"]),
        float(body["timeout_seconds"]),
    ),
    "report": _report,
    "published": lambda body: Published(_key(body), int(body["attempt"]), body.get("error"), body.get("output")),
    "cancel": lambda body: Cancel(str(body.get("actor", "")), str(body.get("reason", ""))),
}


def report_body(report: Report) -> dict[str, Any]:
    """A report as its message body."""
    return {
        "ordinal": report.key.ordinal,
        "item": report.key.item,
        "attempt": report.attempt,
        "worker": report.worker,
        "outcome": report.outcome,
        "output": report.output,
        "error": report.error,
        "effects": list(report.effects),
        "started_at": report.started_at.isoformat() if report.started_at else None,
    }


def started_body(message: Started) -> dict[str, Any]:
    """A start as its message body."""
    return {
        "ordinal": message.key.ordinal,
        "item": message.key.item,
        "attempt": message.attempt,
        "worker": message.worker,
        "at": message.at.isoformat(),
        "timeout_seconds": message.timeout_seconds,
    }


def published_body(message: Published) -> dict[str, Any]:
    """A publication's answer as its message body."""
    key = message.key
    return {
        "ordinal": key.ordinal,
        "item": key.item,
        "attempt": message.attempt,
        "error": message.error,
        "output": message.output,
    }


async def send(conn: Connection, job_id: str, kind: str, body: dict[str, Any]) -> bool:
    """Put a message into a job's inbox; False when there is no such job."""
    cursor = await conn.execute(SQL["insert_message"], {"job_id": job_id, "kind": kind, "body": dumps(body)})
    return await cursor.fetchone() is not None
