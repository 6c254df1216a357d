"""`/v1/{resource}/-/rankings/{ranking}`: who leads, and where one document stands."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, Field, create_model
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.derived.rankings import RankingSource, RankKey, rankings_of
from neverstale.api.derived.sources import Sources
from neverstale.api.endpoints import openapi
from neverstale.api.endpoints.asgi_route import get_and_head
from neverstale.api.endpoints.derived.group_reads import GroupRead
from neverstale.api.endpoints.derived.parameters import group_parameters, model_name_of, parameter
from neverstale.api.endpoints.derived.respond import respond
from neverstale.api.endpoints.openapi_live import LAST_EVENT_ID, or_live
from neverstale.api.live.endpoint import LiveOr
from neverstale.api.live.subjects import FigureSubject, LiveSubject
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import PREFIX, key_of
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.problems import unranked
from neverstale.api.web.query import asked, whole_number
from neverstale.catalog import Resource
from neverstale.role import telemetry

SHOWN: int = 100
"""So many of a ranking, if the caller does not say how many."""
MOST_AROUND: int = 100


def routes(resource: Resource, resources: Mapping[str, Resource]) -> Iterator[BaseRoute]:
    name = resource.name
    for ranks in rankings_of(resource):
        path = f"{PREFIX}{name}/-/rankings/{ranks.ranking}"
        top, one = RankingEndpoint(ranks), RankEndpoint(ranks)
        yield get_and_head(
            path,
            LiveOr(top, top.watched),
            partial(_ranking_model, ranks),
            reads=Reads.of(resource, "rankings", ranks.declared),
            summary=f"Who leads in {ranks.ranking} of {name}",
            operation_id=f"get_{name}_ranking_{ranks.ranking}",
            tags=[name],
            responses=or_live(openapi.answers(absent=False)),
            openapi_extra={"parameters": [*_ranking_parameters(ranks), *openapi.DEMANDS, LAST_EVENT_ID]},
        )
        yield get_and_head(
            path + "/{key}",
            LiveOr(one, one.watched),
            partial(_rank_model, ranks),
            reads=Reads.of(resource, "rankings", ranks.declared),
            summary=f"The rank of one document in {ranks.ranking} of {name}",
            operation_id=f"get_{name}_rank_{ranks.ranking}",
            tags=[name],
            responses=or_live(openapi.answers(absent=True)),
            openapi_extra={"parameters": [*_rank_parameters(ranks), *openapi.DEMANDS, LAST_EVENT_ID]},
        )


def group_reads(resource: Resource, sources: Sources) -> Iterator[GroupRead]:
    return (GroupRead(one, one.declared.by, RankingEndpoint(one).key) for one in rankings_of(resource))


class RankingEndpoint:
    """`GET /v1/{resource}/-/rankings/{ranking}?by…&limit=…`."""

    def __init__(self, ranks: RankingSource) -> None:
        self._ranks = ranks
        self._seconds = telemetry.READ_SECONDS.labels(ranks.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        key, wish = self.key(scope["query_string"]), wish_of(scope["headers"])
        conditions = conditions_of(scope["headers"])
        answer = await _read(scope, self._ranks, key, wish)
        await respond(
            scope, receive, send, conditions, answer, b"", self._seconds, started, {self._ranks.resource.name}
        )

    def watched(self, scope: Scope) -> LiveSubject:
        """What a stream of it watches."""
        return FigureSubject(state_of(scope), self._ranks, self.key(scope["query_string"]))

    def key(self, query: bytes) -> RankKey:
        """What a query string asks for; a `Problem` if that makes no sense."""
        ranks, by = self._ranks, self._ranks.declared.by
        size = ranks.declared.size
        said = asked(query, ranks.resource, by, ("limit",), whole=True)
        limit = whole_number(said, "limit", min(SHOWN, size), 1, size)
        return ranks.key(said.group(by), [said.values[path] for path in by], None, limit)


class RankEndpoint:
    """`GET /v1/{resource}/-/rankings/{ranking}/{key}?by…&around=…`."""

    def __init__(self, ranks: RankingSource) -> None:
        self._ranks = ranks
        self._absence = unranked(ranks.resource.name).body
        self._seconds = telemetry.READ_SECONDS.labels(ranks.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        key = self.key(scope["path_params"]["key"], scope["query_string"])
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        answer = await _read(scope, self._ranks, key, wish)
        await respond(
            scope,
            receive,
            send,
            conditions,
            answer,
            self._absence,
            self._seconds,
            started,
            {self._ranks.resource.name},
        )

    def watched(self, scope: Scope) -> LiveSubject:
        """What a stream of it watches."""
        key = self.key(scope["path_params"]["key"], scope["query_string"])
        return FigureSubject(state_of(scope), self._ranks, key, self._absence)

    def key(self, segment: str, query: bytes) -> RankKey:
        """What a path segment and a query string ask for; a `Problem` if that makes no sense."""
        ranks, by = self._ranks, self._ranks.declared.by
        document = key_of(segment, ranks.resource)
        said = asked(query, ranks.resource, by, ("around",), whole=True)
        around = whole_number(said, "around", 0, 0, MOST_AROUND)
        return ranks.key(said.group(by), [said.values[path] for path in by], document, around)


async def _read(scope: Scope, ranks: RankingSource, key: RankKey, wish: Wish) -> Answer:
    return await state_of(scope).figures.get(ranks, state_of(scope).known[ranks.resource.name], key, wish)


# --- OpenAPI


def _ranking_model(ranks: RankingSource) -> type[BaseModel]:
    item: Any = _ranked(ranks)
    return create_model(model_name_of(ranks.resource, ranks.ranking, "Ranking"), items=(list[item], ...))


def _ranking_parameters(ranks: RankingSource) -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": ranks.declared.size}
    described = group_parameters(ranks.resource, ranks.declared.by, required=True)
    return [*described, parameter("limit", "How many, from the first.", limit)]


def _rank_model(ranks: RankingSource) -> type[BaseModel]:
    item: Any = _ranked(ranks)
    text = "With `around`: neighbours and itself, in order."
    around: Any = list[item] | None
    name = model_name_of(ranks.resource, ranks.ranking, "Rank")
    return create_model(name, __base__=item, around=(around, Field(None, description=text)))


def _rank_parameters(ranks: RankingSource) -> list[dict[str, Any]]:
    around = {"type": "integer", "minimum": 0, "maximum": 100, "default": 0}
    described = group_parameters(ranks.resource, ranks.declared.by, required=True)
    beside = parameter("around", "Neighbours on either side.", around)
    return [openapi.key_parameter(ranks.resource), *described, beside]


def _ranked(ranks: RankingSource) -> Any:
    kind, example = openapi.key_type(ranks.resource)
    return create_model(
        model_name_of(ranks.resource, ranks.ranking, "Place"),
        key=(kind, Field(examples=[example])),
        score=(float, Field(description="A date counts its milliseconds since 1970.", examples=[340])),
        rank=(int, Field(description="From 1; equal scores rank by key.", examples=[1])),
    )
