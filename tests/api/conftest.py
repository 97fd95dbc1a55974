"""The API over a real engine and a worker driven by hand, called in process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from dagmaster.api.app import create_app
from dagmaster.api.authority import Authority
from dagmaster.db.notify import INBOX
from dagmaster.engine.wake import Notifier
from engine.conftest import SPECS, Bench, bench

__all__ = ["bench"]


@pytest.fixture
async def http(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:  # the fixture of the engine's tests
    notifier = Notifier(bench.pool)
    authority = Authority(bench.pool, SPECS, ring_inbox=lambda: notifier.tell(INBOX))
    transport = httpx.ASGITransport(create_app(authority), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await notifier.flush()
