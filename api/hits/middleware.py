"""The fast path for servers that know only ASGI: the same answers, in front of the routes."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.middleware import VISIT, visit_of
from neverstale.api.hits.fast_path import USUAL, Hot, WireAsk
from neverstale.api.reads.source import CachedSource
from neverstale.api.state import state_of
from neverstale.api.web.demands import Plain, plain_of
from neverstale.api.web.headers import BLANK, SharedHeaders
from neverstale.api.web.responses import ReadyResponse
from neverstale.api.web.route_names import COUNTED, route_of, tell_route


class _AsgiAsk(WireAsk):
    __slots__ = ("response",)

    def __init__(self, hot: Hot, source: CachedSource, key: Any, line: bytes, plain: Plain) -> None:
        super().__init__(hot, source, key, line, plain)
        self.response: asyncio.Future[ReadyResponse] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        return self.response.done()

    def send(self, status: int, tail: bytes, shared: SharedHeaders) -> None:
        self.send_raw(_raw(status, tail, shared))

    def send_raw(self, response: ReadyResponse) -> None:
        if not self.response.done():
            self.response.set_result(response)


class HotPath:
    """ASGI middleware: answers plain gets of documents and pages, and hands everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope) if scope["type"] == "http" else None
        await (self._app if response is None else response)(scope, receive, send)

    async def _answer(self, scope: Scope) -> ReadyResponse | None:
        hot = state_of(scope).hot
        if hot is None or scope.get("root_path") or VISIT not in scope:
            return None
        path = scope.get("raw_path")
        # Whether the connection is kept is for the server to see to.
        plain = plain_of(header for header in scope["headers"] if header[0] != b"connection")
        if path is None or plain is None:
            return None
        if query := scope["query_string"]:
            path = b"%b?%b" % (path, query)
        line = b"%b %b HTTP/1.1" % (scope["method"].encode("latin-1"), path)
        if not visit_of(scope).admits(line):
            return None
        tail = hot.look(line, plain)
        if tail is not None:
            tell_route(scope, COUNTED)
            status, tail = hot.choose(plain, tail)
            if status not in USUAL:
                hot.unusual[line, status] = hot.unusual.get((line, status), 0) + 1
            return _raw(status, tail, hot.shared)
        found = hot.find(line)
        if found is None:
            return None
        tell_route(scope, route_of(found[0].name))
        ask = _AsgiAsk(hot, *found, line, plain)
        hot.start(ask)
        return await ask.response


def _raw(status: int, tail: bytes, shared: SharedHeaders) -> ReadyResponse:
    return ReadyResponse(status, shared.headers(status, tail), tail[tail.index(BLANK) + 4 :])
