"""Limits for what the routes answer: ASGI middleware in front of everything below `/v1/`."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neverstale.api.callers.addresses import of_peer
from neverstale.api.callers.middleware import visit_of
from neverstale.api.state import state_of
from neverstale.api.web import headers
from neverstale.api.web.paths import PREFIX


class Limited:
    """Wants a token for each request. The limits are those that the app's lifespan opened."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        limits = state_of(scope).limits
        if limits is None:
            await self._app(scope, receive, send)
            return
        verdict = await limits.take(visit_of(scope).badge.bucket or of_peer(scope.get("client")))
        about_limits = headers.pairs(verdict.lines)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *about_limits]}
            await send(message)

        answer = self._app if verdict.refusal is None else verdict.refusal.response()
        await answer(scope, receive, send_with_limits)
