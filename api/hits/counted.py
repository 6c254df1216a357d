"""How many requests were answered, by route and status.

What is answered before ASGI runs is counted in plain numbers, and told to the metrics once in a while.
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neverstale.api.web.route_names import COUNTED, listen, route_of
from neverstale.role import telemetry


def tell(counts: Mapping[tuple[str, int], int]) -> None:
    """Tell the metrics of answers: (name of the source, status) -> how many."""
    for (source, status), count in counts.items():
        if count:
            telemetry.REQUESTS.labels(route_of(source), str(status)).inc(count)


class Counted:
    """ASGI middleware: counts what all others have answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        told = listen(scope)

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and told[0] != COUNTED:
                telemetry.REQUESTS.labels(told[0], str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
