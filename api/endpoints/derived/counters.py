"""`/v1/{resource}/-/counters/{counter}`: how many, and sums."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import Field, create_model
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.derived.counters import CounterSource, CountKey, counters_of
from neverstale.api.derived.sources import Sources
from neverstale.api.endpoints import openapi
from neverstale.api.endpoints.asgi_route import get_and_head
from neverstale.api.endpoints.derived.group_reads import GroupRead
from neverstale.api.endpoints.derived.parameters import TYPED, group_parameters, model_name_of, parameter
from neverstale.api.endpoints.derived.respond import respond
from neverstale.api.endpoints.openapi_live import LAST_EVENT_ID, or_live
from neverstale.api.live.endpoint import LiveOr
from neverstale.api.live.subjects import FigureSubject, LiveSubject
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import PREFIX, listed
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.problems import bad_parameter, switched_off
from neverstale.api.web.query import Asked, asked, kind_of, whole_number
from neverstale.catalog import Resource
from neverstale.role import telemetry


def routes(resource: Resource, resources: Mapping[str, Resource]) -> Iterator[BaseRoute]:
    name = resource.name
    for counts in counters_of(resource):
        endpoint = CounterEndpoint(counts)
        yield get_and_head(
            f"{PREFIX}{name}/-/counters/{counts.counter}",
            LiveOr(endpoint, endpoint.watched),
            partial(_counter_model, counts),
            reads=Reads.of(resource, "counters", counts.declared),
            summary=f"How many {name}, counted as {counts.counter}",
            operation_id=f"get_{name}_counter_{counts.counter}",
            tags=[name],
            responses=or_live(openapi.answers(absent=False)) | ({} if resource.max_groups else openapi.SWITCHED_OFF),
            openapi_extra={"parameters": [*_counter_parameters(counts), *openapi.DEMANDS, LAST_EVENT_ID]},
        )


def group_reads(resource: Resource, sources: Sources) -> Iterator[GroupRead]:
    return (GroupRead(one, one.declared.by, CounterEndpoint(one).key) for one in counters_of(resource))


class CounterEndpoint:
    """`GET /v1/{resource}/-/counters/{counter}?by…&group=…&limit=…`."""

    def __init__(self, counts: CounterSource) -> None:
        self._counts = counts
        self._seconds = telemetry.READ_SECONDS.labels(counts.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        key, wish = self.key(scope["query_string"]), wish_of(scope["headers"])
        conditions = conditions_of(scope["headers"])
        figures = state_of(scope).figures
        known = state_of(scope).known[self._counts.resource.name]
        answer = await figures.get(self._counts, known, key, wish)
        await respond(
            scope, receive, send, conditions, answer, b"", self._seconds, started, {self._counts.resource.name}
        )

    def watched(self, scope: Scope) -> LiveSubject:
        """What a stream of it watches."""
        return FigureSubject(state_of(scope), self._counts, self.key(scope["query_string"]))

    def key(self, query: bytes) -> CountKey:
        """What a query string asks for; a `Problem` if that makes no sense."""
        counts = self._counts
        said = asked(query, counts.resource, counts.declared.by, ("group", "limit"), whole=False)
        most = counts.resource.max_groups
        limit = whole_number(said, "limit", most, 1, most) if most else 0
        if not most and len(said.values) < len(counts.declared.by):
            raise switched_off(counts.resource.name, "max_groups = 0", "groups of counters")
        return counts.key(said.values, _groups_of(said, counts), limit)


def _groups_of(said: Asked, counts: CounterSource) -> list[str] | None:
    value = said.others.get("group")
    if not value:
        return None if value is None else []
    named = listed(value, counts.declared.by, "group")
    for path in named:
        if named.count(path) > 1:
            raise bad_parameter("group", f"{path} is there twice")
    return named


# --- OpenAPI


def _counter_model(counts: CounterSource) -> Any:
    sums = _figures(counts, "Sums", "The sum; null if JSON cannot say it.")
    averages = _figures(counts, "Averages", "The sum by the number of numbers; null without any.")
    figures: dict[str, Any] = {"count": (int, Field(examples=[12])), "sums": (sums, ...)}
    if counts.declared.sums:
        figures["averages"] = (averages, ...)
    total = create_model(model_name_of(counts.resource, counts.counter, "Count"), __doc__="Of one group.", **figures)
    by: Any = dict[str, Any]
    text = "Where `by` does not tell the types of its values: the parameters that do. Null: one is too long for them."
    group = create_model(
        model_name_of(counts.resource, counts.counter, "Group"),
        by=(by, Field(examples=[_by(counts)])),
        ask=(str | None, Field(None, description=text, examples=["price:decimal=10.50"])),
        **figures,
    )
    groups: Any = list[group]
    return create_model(
        model_name_of(counts.resource, counts.counter, "Counted"),
        __doc__="One group has `count`, `sums` and `averages`; several are listed in `groups`, with their `total`.",
        count=(int | None, Field(None, description="Of one group, or of all together.", examples=[12])),
        sums=(sums | None, None),
        averages=(averages | None, None),
        groups=(groups | None, Field(None, description="The largest first.")),
        more=(bool | None, Field(None, description="There are more groups than `limit`.", examples=[False])),
        total=(total | None, Field(None, description="Of all groups, shown or not.")),
    )


def _counter_parameters(counts: CounterSource) -> list[dict[str, Any]]:
    fields = list(counts.declared.by)
    most = counts.resource.max_groups
    described = [*group_parameters(counts.resource, counts.declared.by, required=not most)]
    if not most:
        return described
    if fields:
        text = "Fields that make the groups; the others are added up. Empty: one count of all."
        listed = {"type": "array", "items": {"type": "string", "enum": fields}, "uniqueItems": True}
        described.append(parameter("group", text, listed) | {"style": "form", "explode": False})
    limit = {"type": "integer", "minimum": 1, "maximum": most, "default": most}
    return [*described, parameter("limit", "Groups that are shown.", limit)]


def _figures(counts: CounterSource, part: str, text: str) -> Any:
    named: dict[str, Any] = {
        f"sum_{i}": (float | None, Field(alias=name, description=text, examples=[340]))
        for i, name in enumerate(counts.declared.sums)
    }
    return create_model(model_name_of(counts.resource, counts.counter, part), **named)


def _by(counts: CounterSource) -> dict[str, Any]:
    return {path: TYPED[kind_of(path, counts.resource)][1] for path in counts.declared.by}
