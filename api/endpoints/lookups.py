"""`/v1/{resource}/-/by/{field}/{value}`: one document by a field that no two share."""

import time

from starlette.types import Receive, Scope, Send

from neverstale.api.callers.middleware import visit_of
from neverstale.api.endpoints.derived import respond
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import no_parameters
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.query import looked_up
from neverstale.catalog import Resource
from neverstale.role import telemetry


class LookupEndpoint:
    """`GET /v1/{resource}/-/by/{field}/{value}`."""

    def __init__(self, resource: Resource, path: str) -> None:
        self._name = resource.name, path
        self._seconds = telemetry.READ_SECONDS.labels(f"{resource.name}.lookups.{path}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        no_parameters(scope["query_string"])
        source, reader = state_of(scope).sources.lookups[self._name], state_of(scope).reader
        key = source.key(looked_up(scope["path_params"]["value"], source.path, source.resource))
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        answer, owner = await reader.get(source, key, wish), visit_of(scope).owner(source.resource)
        if owner is not None:
            answer = owner.seen(answer)
        await respond(
            scope, receive, send, conditions, answer, source.absence, self._seconds, started, {self._name[0]}
        )
