"""Who a reader is: a key or a token, shown with each request."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

import httpx

Bearer: TypeAlias = str | Callable[[], Awaitable[str]]
"""A key or a token; or who is asked for one before each request and each connection of a live read, so that a token
that ends is followed by the next one. It keeps a token for as long as that is good."""


class BearerAuth(httpx.Auth):
    """What is raised by who is asked leaves as it is: without a token there is no request."""

    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        shown = self._bearer if isinstance(self._bearer, str) else await self._bearer()
        request.headers["Authorization"] = f"Bearer {shown}"
        yield request
