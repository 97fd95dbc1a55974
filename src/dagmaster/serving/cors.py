"""Lets pages of other origins read what is public (STAC Browser, MapLibre, OpenLayers), without credentials.

The headers are on every answer, whoever asks: a cache between us and two callers would otherwise hand one the answer of
the other.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = b"GET, HEAD, POST, OPTIONS"
REQUEST_HEADERS = (
    b"Accept, Accept-Language, Cache-Control, Content-Type, If-Modified-Since, If-None-Match, If-Range, Range"
)
EXPOSED = b"Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag, Last-Modified, Retry-After"
REMEMBER_SECONDS = b"600"
ALWAYS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED),
    (b"cross-origin-resource-policy", b"cross-origin"),
]
PREFLIGHT = [
    *ALWAYS,
    (b"access-control-allow-methods", METHODS),
    (b"access-control-allow-headers", REQUEST_HEADERS),
    (b"access-control-max-age", REMEMBER_SECONDS),
    (b"allow", METHODS),
]


class Public:
    """An application whose answers any page may read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": PREFLIGHT})
            await send({"type": "http.response.body"})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *ALWAYS]
            await send(message)

        await self.app(scope, receive, with_headers)
