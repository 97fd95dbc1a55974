"""What the shell offers at the Tab key: names from the shelf and from a running dagmaster, quickly or not at all."""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from dagmaster.errors import DagmasterError

WAIT_SECONDS = 0.5
"""Longer than this nobody waits for a proposal."""
JOBS_MAX = 50
STATUSES = ("PENDING", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED")

Proposals = list[tuple[str, str]]
"""Words with what each of them is."""


def _beginning(incomplete: str, found: Proposals) -> Proposals:
    return [(word, what) for word, what in found if word.startswith(incomplete)]


def workflows(incomplete: str) -> Proposals:
    """Ids of workflows: the bundled ones and those of DAGMASTER_WORKFLOWS."""
    from dagmaster.dag import library
    from dagmaster.settings import Settings

    try:
        names = library.available(Settings().workflow_folders(None))
    except DagmasterError:
        return []
    return _beginning(incomplete, [(name, "") for name in names])


def jobs(incomplete: str) -> Proposals:
    """Ids of the newest jobs, when a dagmaster is up."""
    from dagmaster.run.places import service_url
    from dagmaster.settings import Settings

    try:
        url = service_url(Settings(), None, None)
        answer = httpx.get(f"{url}/api/v1/jobs", params={"limit": JOBS_MAX}, timeout=WAIT_SECONDS, trust_env=False)
        items = answer.json()["items"]
    except (DagmasterError, httpx.HTTPError, ValueError, KeyError, ValidationError):
        return []
    return _beginning(incomplete, [(job["job_id"], f"{job['workflow_id']} {job['status']}") for job in items])


def handlers(incomplete: str) -> Proposals:
    """Names of the bundled handlers."""
    from dagmaster.handlers.manifest import bundled_specs

    return _beginning(incomplete, [(name, spec.summary) for name, spec in bundled_specs().items()])


def codes(incomplete: str) -> Proposals:
    """Every code that `dagmaster explain` knows."""
    from dagmaster.dag.findings import CODES
    from dagmaster.errors import by_code

    known = {**dict.fromkeys(CODES, ""), **dict.fromkeys(by_code(), "")}
    return _beginning(incomplete, [(code, "") for code in sorted(known)])


def statuses(incomplete: str) -> Proposals:
    """States of jobs."""
    return _beginning(incomplete, [(status, "") for status in STATUSES])
