"""`/v1/{resource}/-/by/{field}/{value}`: one document by a field that no two share."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.callers.middleware import visit_of
from neverstale.api.derived.lookups import LookupSource
from neverstale.api.derived.sources import Sources
from neverstale.api.endpoints import openapi
from neverstale.api.endpoints.asgi_route import get_and_head
from neverstale.api.endpoints.derived.group_reads import GroupRead
from neverstale.api.endpoints.derived.parameters import TYPED
from neverstale.api.endpoints.derived.respond import respond
from neverstale.api.live.endpoint import LiveOr, SubjectOf
from neverstale.api.live.subjects import LiveSubject, LookupSubject
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import PREFIX, no_parameters
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.query import kind_of, looked_up
from neverstale.catalog import Resource
from neverstale.role import telemetry

_NOT_UNIQUE: Final = openapi.problem_answer(409, "More than one document has this value.")


def routes(resource: Resource, resources: Mapping[str, Resource]) -> Iterator[BaseRoute]:
    name = resource.name
    for path in resource.lookups:
        yield get_and_head(
            f"{PREFIX}{name}/-/by/{path}/{{value}}",
            LiveOr(LookupEndpoint(resource, path), _watched(resource, path)),
            partial(openapi.document_model, resource),
            reads=Reads(name, "lookups"),
            summary=f"The document of {name} with this {path}",
            operation_id=f"get_{name}_by_{path}",
            tags=[name],
            responses=openapi.answers(absent=True) | _NOT_UNIQUE,
            openapi_extra={"parameters": [_value_parameter(resource, path), *openapi.DEMANDS]},
        )


def group_reads(resource: Resource, sources: Sources) -> Iterator[GroupRead]:
    """A value stands in the path, which the auditor does not spell."""
    return iter(())


class LookupEndpoint:
    """`GET /v1/{resource}/-/by/{field}/{value}`."""

    def __init__(self, resource: Resource, path: str) -> None:
        self._name = f"{resource.name}.lookups.{path}"
        self._resource = resource.name
        self._seconds = telemetry.READ_SECONDS.labels(self._name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        no_parameters(scope["query_string"])
        source, reader = state_of(scope).sources.named(LookupSource, self._name), state_of(scope).reader
        key = source.key(looked_up(scope["path_params"]["value"], source.path, source.resource))
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        answer, owner = await reader.get(source, key, wish), visit_of(scope).owner(source.resource)
        if owner is not None:
            answer = owner.seen(answer)
        await respond(
            scope, receive, send, conditions, answer, source.absence, self._seconds, started, {self._resource}
        )


def _watched(resource: Resource, path: str) -> SubjectOf:
    """What a stream of a look-up watches."""

    def subject(scope: Scope) -> LiveSubject:
        no_parameters(scope["query_string"])
        state = state_of(scope)
        source = state.sources.named(LookupSource, f"{resource.name}.lookups.{path}")
        return LookupSubject(state, source, source.key(looked_up(scope["path_params"]["value"], path, resource)))

    return subject


def _value_parameter(resource: Resource, path: str) -> dict[str, Any]:
    typed, example = TYPED[kind_of(path, resource)]
    if typed["type"] == "string":
        typed = {"minLength": 1} | typed
    text = f"The value of {path}, percent-encoded: a `/` inside it is `%2F`."
    described = {"name": "value", "in": "path", "required": True, "description": text}
    return described | {"schema": typed, "example": example}
