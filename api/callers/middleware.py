"""Decisions on the ordinary way: ASGI middleware before everything that answers.

It says who asks. The route that takes the request declares what it reads (`DecidedRoute`), and that is decided before
anything runs. An answer that nobody has decided on does not leave: a route that forgets to say what it reads answers
nobody.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neverstale.api.callers.access import OPEN, Access, Reads
from neverstale.api.callers.caller import ANYBODY, Caller
from neverstale.api.callers.gate import Badge
from neverstale.api.callers.tenants import Owner, owner_of
from neverstale.api.state import state_of
from neverstale.api.web.headers import for_one, pairs
from neverstale.api.web.paths import PREFIX
from neverstale.api.web.problems import Problem
from neverstale.catalog import Resource
from neverstale.role import telemetry

VISIT: Final = "neverstale.visit"
"""Where a request's scope has its `Visit`."""


class Visit:
    """One request, and whether it was decided if its caller may have what it asks for."""

    __slots__ = ("_access", "_headers", "badge", "caller", "decided", "refusal")

    def __init__(
        self,
        access: Access,
        badge: Badge,
        headers: Sequence[tuple[bytes, bytes]],
        refusal: Problem | None = None,
    ) -> None:
        self.badge = badge
        self.refusal = refusal
        """Why nobody believes what the request shows."""
        self.caller: Caller = badge.caller
        self.decided = False
        self._access = access
        self._headers = headers

    def decide(self, reads: Reads) -> None:
        """Raises a `Problem` if the caller may not have what is read."""
        self.decided = True
        if self.refusal is not None:
            raise self.refusal
        self._refuse(self._access.refusal(self.caller, reads, self._headers))

    def admits(self, line: bytes) -> bool:
        """Whether the fast path may answer this request line; then it is decided."""
        self.decided = self.refusal is None and self.badge.may_have(line)
        return self.decided

    def require(self, resource: str) -> None:
        """Raises a `Problem` if the caller may not have documents of this resource, too, which an answer shows."""
        self._refuse(self._access.of_read(self.caller, resource, "documents"))
        self._refuse(self._access.of_other_tenants(self.caller, resource))

    def owner(self, resource: Resource) -> Owner | None:
        """Whose documents the caller may see; `None`: everybody's. A `Problem` if that is not known."""
        if resource.tenant is None or self.caller.rights.sees_all_tenants(resource.name):
            return None
        return owner_of(self.caller, resource, resource.tenant)

    def claimed(self, reads: Reads, query: bytes) -> bytes:
        """A query string in which the values that come from credentials are those of the caller."""
        if not reads.claims or reads.resource is None or self.caller.rights.sees_all_tenants(reads.resource):
            return query
        for each in reads.claims:
            query = each.put_into(query, self.caller)
        return query

    def may_see(self, resource: str) -> bool:
        """Whether the caller may know of a resource."""
        return self._access.may_see(self.caller, resource)

    def _refuse(self, problem: Problem | None) -> None:
        if problem is not None:
            telemetry.CALLERS_REFUSED.labels("none" if self.caller is ANYBODY else "scope").inc()
            raise problem


def visit_of(scope: Scope) -> Visit:
    """Who asks. Raises `KeyError` where no middleware has said so: nothing may be answered then."""
    visit: Visit = scope[VISIT]
    return visit


class Decided:
    """Says who asks, and lets out only what was decided on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        gate, headers = state_of(scope).gate, scope["headers"]
        try:
            caller, refusal = await gate.callers.identify(headers), None
        except Problem as problem:
            caller, refusal = ANYBODY, problem
        visit = Visit(gate.access, gate.badge(caller, headers), headers, refusal)

        lines = pairs(visit.badge.lines) if scope["path"].startswith(PREFIX) else []

        async def decided(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] < 400 and not visit.decided:
                    raise Undecided(scope["path"])
                if visit.badge.private or lines:
                    answered = for_one(message["headers"]) if visit.badge.private else message["headers"]
                    message = {**message, "headers": [*answered, *lines]}
            await send(message)

        await self._app({**scope, VISIT: visit}, receive, decided)


class Undecided(Exception):
    """A route answers that has declared nothing (see `DecidedRoute`). A mistake of ours: the answer is a 500."""


class DecidedRoute(Route):
    """A route that says what it reads. Its application runs only for callers who may have that."""

    def __init__(self, path: str, endpoint: Any, *, reads: Reads, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.reads = reads

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = visit_of(scope)
        visit.decide(self.reads)
        if self.reads.claims:
            scope["query_string"] = visit.claimed(self.reads, scope["query_string"])
        await super().handle(scope, receive, send)


def undeclared(routes: Iterable[BaseRoute]) -> list[str]:
    """The paths of routes that say nothing about who may have what they answer."""
    return [
        str(getattr(route, "path", route))
        for route in routes
        if not isinstance(route, DecidedRoute) and getattr(route, "path", None) not in OPEN
    ]
