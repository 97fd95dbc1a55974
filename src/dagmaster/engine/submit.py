"""A submission becomes a job: checked first, then created with its definition and its first message."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.store import SHARD_COUNT
from dagmaster.dag.check import check
from dagmaster.dag.compile import compile_graph
from dagmaster.dag.definition import Definition
from dagmaster.dag.findings import refuse
from dagmaster.dag.inputs import resolve_inputs
from dagmaster.dag.model import FanOutNode, TaskNode
from dagmaster.db import jobs
from dagmaster.db.connect import Pool
from dagmaster.errors import IdempotencyConflict

SOUND_MAX = 1_000
_SOUND: dict[tuple[str, tuple[tuple[str, int], ...]], list[HandlerSpec]] = {}
"""Definitions found sound, with the very handlers they were checked against: what is kept here keeps its identity."""


def new_job_id() -> str:
    """A UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds, so ids sort by age."""
    stamp = time.time_ns() // 1_000_000
    value = (stamp & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def shard_of(job_id: str) -> int:
    """The shard of a job, for ever."""
    return int.from_bytes(hashlib.blake2b(job_id.encode(), digest_size=2).digest()) % SHARD_COUNT


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody wants run."""

    definition: Definition
    inputs: Mapping[str, Any]
    idempotency_key: str | None = None
    correlation_id: str | None = None
    priority: int = 0
    rerun_of: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that a submission made, or had made before."""

    job_id: str
    created: bool


async def submit(pool: Pool, submission: Submission, handlers: Mapping[str, HandlerSpec]) -> Accepted:
    """Create the job in one transaction. Errors: every Refused of the checks, IdempotencyConflict."""
    definition = submission.definition
    digest = definition.digest
    _checked(definition, digest, handlers)
    inputs = resolve_inputs(definition, dict(submission.inputs))
    job_id = new_job_id()
    job = jobs.NewJob(
        job_id=job_id,
        shard=shard_of(job_id),
        digest=digest,
        workflow_id=definition.workflow_id,
        version=definition.version,
        document=definition.document,
        inputs=inputs,
        priority=submission.priority,
        idempotency_key=submission.idempotency_key,
        request_digest=_request_digest(digest, inputs),
        correlation_id=submission.correlation_id,
        rerun_of=submission.rerun_of,
    )
    async with pool.connection() as conn:
        if await jobs.insert_job(conn, job):
            return Accepted(job_id, created=True)
        assert submission.idempotency_key is not None, "only an idempotency key can have made the job before"
        return await _made_before(conn, submission.idempotency_key, job.request_digest)


def _checked(definition: Definition, digest: str, handlers: Mapping[str, HandlerSpec]) -> None:
    """Refuse a definition that has faults. One that was found sound is not looked at again, while its handlers stay."""
    names = {node.handler for node in definition.nodes.values() if isinstance(node, TaskNode)}
    names |= {node.task.handler for node in definition.nodes.values() if isinstance(node, FanOutNode)}
    key = (digest, tuple(sorted((name, id(handlers[name])) for name in names if name in handlers)))
    if key in _SOUND:
        return
    refuse(check(definition, handlers))
    compile_graph(definition)
    if len(_SOUND) >= SOUND_MAX:
        _SOUND.clear()
    _SOUND[key] = [handlers[name] for name in names]


async def _made_before(conn: Any, key: str, request_digest: str | None) -> Accepted:
    found = await jobs.find_job_by_key(conn, key)
    assert found is not None, "the key was just found taken"
    job_id, before = found
    if before != request_digest:
        raise IdempotencyConflict(key=key)
    return Accepted(job_id, created=False)


def _request_digest(digest: str, inputs: dict[str, Any]) -> str:
    return hashlib.sha256(digest.encode() + orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()
