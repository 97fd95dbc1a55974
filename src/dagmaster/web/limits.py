"""A bound on what a request may bring: said at once, before anything is read or parsed."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dagmaster.errors import BodyTooLarge
from dagmaster.web.problems import answer, problem_of

BODY_BYTES_MAX = 1024 * 1024


class BodyLimit:
    """Answers 413 to a body above the limit, whether its length is declared or not; below it, the app sees it whole."""

    def __init__(self, app: ASGIApp, bytes_max: int = BODY_BYTES_MAX) -> None:
        self.app = app
        self.bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self.bytes_max:
            await self._refuse(scope, receive, send)
            return
        messages: list[Message] = []
        size = 0
        while not messages or messages[-1].get("more_body", False):
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self.bytes_max:
                await self._refuse(scope, receive, send)
                return
        messages.reverse()

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BodyTooLarge(mib=self.bytes_max // 2**20)
        await answer(problem_of(error, 413))(scope, receive, send)
