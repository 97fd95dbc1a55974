"""A submission straight into the job queue: the same checks and the same transaction as behind the API."""

from __future__ import annotations

from dagmaster.contract.api import SubmitJob
from dagmaster.dag.definition import load
from dagmaster.dag.library import find
from dagmaster.db.connect import open_pool
from dagmaster.db.notify import INBOX, notify
from dagmaster.engine.submit import Submission, submit
from dagmaster.errors import Refused
from dagmaster.handlers.manifest import bundled_specs


async def enqueue(uri: str, body: SubmitJob) -> str:
    """Create the job and wake the orchestrators; returns its id. Errors: every Refused, DatabaseUnreachable."""
    if body.workflow_id is not None:
        definition = find(body.workflow_id, paths=False)
    elif body.definition is not None:
        definition = load(body.definition, body.file_name or "definition.yaml")
    else:
        raise Refused("Give either workflow_id or definition.", remedy="Send exactly one of the two.")
    pool = await open_pool(uri)
    try:
        wanted = Submission(definition, body.inputs, body.idempotency_key, body.correlation_id, body.priority)
        made = await submit(pool, wanted, bundled_specs())
        async with pool.connection() as conn:
            await notify(conn, [INBOX])
    finally:
        await pool.close()
    return made.job_id
