"""`/v1/{resource}/-/lists/{list}`: a list, page by page."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, Field, create_model
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.callers.middleware import visit_of
from neverstale.api.derived.counters import counters_of
from neverstale.api.derived.pages import PageKey, PageSource
from neverstale.api.derived.sources import Sources
from neverstale.api.derived.totals import Totals, count_in, totals_of, wanted_counter
from neverstale.api.endpoints import openapi
from neverstale.api.endpoints.asgi_route import get_and_head
from neverstale.api.endpoints.derived.group_reads import GroupRead
from neverstale.api.endpoints.derived.parameters import TYPED, group_parameters, model_name_of, parameter
from neverstale.api.endpoints.derived.respond import respond
from neverstale.api.endpoints.openapi_live import LAST_EVENT_ID, or_live
from neverstale.api.endpoints.openapi_views import view_parameters
from neverstale.api.hits.request_lines import page_of
from neverstale.api.linked.linker import Linker
from neverstale.api.linked.many import Many
from neverstale.api.linked.parameters import EXPAND, view_of
from neverstale.api.linked.reading import reading
from neverstale.api.linked.view import Views
from neverstale.api.live.endpoint import LiveOr, SubjectOf
from neverstale.api.live.subjects import LiveSubject, PageSubject
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import PREFIX, parameters_of, text_of
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.problems import bad_parameter
from neverstale.api.web.query import kind_of
from neverstale.api.web.unread import hold_for
from neverstale.catalog import Resource
from neverstale.role import telemetry

TOTAL: Final = "total"
_NAMED: Final = "the type may be named before it, as in `day:int:gte`."
_CURSOR: Final = "AQX3k0bN1QABGgAAAAQAEgAAAAIwAAIAAABrAAAAAA"


def routes(resource: Resource, resources: Mapping[str, Resource]) -> Iterator[BaseRoute]:
    """`resources`: all of the catalog, which documents may lead to."""
    name, counters = resource.name, counters_of(resource)
    for list_name, declared in resource.lists.items():
        totals = totals_of(resource, list_name, counters)
        has_total = totals is not None
        yield get_and_head(
            f"{PREFIX}{name}/-/lists/{list_name}",
            LiveOr(ListEndpoint(resource, list_name, resources, totals), _watched(resource, list_name, resources)),
            partial(_page_model, resource, list_name, has_total=has_total),
            reads=Reads.of(resource, "lists", declared),
            summary=f"The list {list_name} of {name}, page by page",
            operation_id=f"get_{name}_list_{list_name}",
            tags=[name],
            responses=or_live(openapi.answers(absent=False)),
            openapi_extra={
                "parameters": [
                    *_list_parameters(resource, list_name, has_total=has_total),
                    *view_parameters(resource, resources),
                    *openapi.DEMANDS,
                    LAST_EVENT_ID,
                ]
            },
        )


def group_reads(resource: Resource, sources: Sources) -> Iterator[GroupRead]:
    for list_name, declared in resource.lists.items():
        pages = sources.named(PageSource, f"{resource.name}.lists.{list_name}")
        yield GroupRead(pages, declared.by, partial(page_of, pages))


class ListEndpoint:
    """`GET /v1/{resource}/-/lists/{list}?by…&cursor=…&limit=…&total=true`."""

    def __init__(
        self, resource: Resource, list_name: str, resources: Mapping[str, Resource], totals: Totals | None
    ) -> None:
        """`resources`: all of the catalog. `totals`: `None`: nothing tells them."""
        self._views = Views(resource, resources)
        self._name = f"{resource.name}.lists.{list_name}"
        self._resource = resource.name
        self._totals = totals
        self._wanted_counter = wanted_counter(resource.lists[list_name])
        self._seconds = telemetry.READ_SECONDS.labels(self._name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        pages, reader = state_of(scope).sources.named(PageSource, self._name), state_of(scope).reader
        view, query = view_of(scope, self._views)
        query, counted = _total_in(query)
        key = page_of(pages, query)
        totals = self._totals_of(scope, key) if counted else None
        get = reader.get if pages.is_cached(key) else reader.get_around
        if view.is_whole and totals is None:
            answer = await get(pages, key, wish)
        else:

            async def read(linker: Linker, _: Many) -> Answer:
                page, total = await asyncio.gather(get(pages, key, wish), self._count(scope, totals, key, wish))
                found = await linker.page(view, page)
                return found if total is None else linker.with_total(found, total, count_in(total))

            with hold_for(scope.get("state", {})) as holding:
                answer = await reading(state_of(scope), wish, holding, EXPAND, read)
        await respond(scope, receive, send, conditions, answer, b"", self._seconds, started, view.resources)

    def _totals_of(self, scope: Scope, key: PageKey) -> Totals:
        if self._totals is None:
            detail = (
                f"nothing counts this list's groups; the catalog may declare a counter with {self._wanted_counter}"
            )
            raise bad_parameter(TOTAL, detail)
        if key.span:
            raise bad_parameter(TOTAL, "counts the whole group; leave it out, or the range")
        visit_of(scope).decide(Reads(self._resource, "counters"))
        return self._totals

    async def _count(self, scope: Scope, totals: Totals | None, key: PageKey, wish: Wish) -> Answer | None:
        if totals is None:
            return None
        known = state_of(scope).known[self._resource]
        return await state_of(scope).figures.get(totals.counts, known, totals.key(key.values), wish)


def _total_in(query: bytes) -> tuple[bytes, bool]:
    """The query without `total`, and whether it is wanted."""
    if TOTAL.encode() not in query and b"%" not in query:
        return query, False
    rest: list[bytes] = []
    said: list[str] = []
    for pair in query.split(b"&"):
        for name, value in parameters_of(pair):
            if name == TOTAL:
                said.append(text_of(value, TOTAL))
            else:
                rest.append(pair)
    if len(said) > 1:
        raise bad_parameter(TOTAL, "is there twice")
    if said and said[0] not in ("true", "false"):
        raise bad_parameter(TOTAL, "expected true or false")
    return b"&".join(rest), said == ["true"]


def _watched(resource: Resource, list_name: str, resources: Mapping[str, Resource]) -> SubjectOf:
    """What a stream of a page watches."""
    views = Views(resource, resources)

    def subject(scope: Scope) -> LiveSubject:
        state = state_of(scope)
        pages = state.sources.named(PageSource, f"{resource.name}.lists.{list_name}")
        view, query = view_of(scope, views)
        return PageSubject(state, pages, page_of(pages, query), view)

    return subject


# --- OpenAPI


def _page_model(resource: Resource, list_name: str, *, has_total: bool) -> type[BaseModel]:
    document: Any = openapi.document_model(resource)
    members: dict[str, Any] = {
        "items": (list[document], ...),
        "next": _cursor("The cursor of the next page; null: this is the last."),
        "prev": _cursor("The cursor of the page before; null: this is the first."),
    }
    if has_total:
        members["total"] = (int | None, Field(None, description="Documents of the group.", examples=[12]))
    return create_model(model_name_of(resource, list_name, "Page"), __doc__=f"A page of {list_name}.", **members)


def _list_parameters(resource: Resource, list_name: str, *, has_total: bool) -> list[dict[str, Any]]:
    declared = resource.lists[list_name]
    text = "Which page: `next` or `prev` of another one; 400 for anything else."
    cursor = parameter("cursor", text, {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]+$"})
    size = {"type": "integer", "minimum": 1, "maximum": declared.page_size, "default": declared.page_size}
    described = [*group_parameters(resource, declared.by, required=True), cursor, parameter("limit", "Items.", size)]
    first = declared.order[0][0]
    if first not in declared.by and first not in declared.where:
        typed = TYPED[kind_of(first, resource)][0]
        described += [
            parameter(f"{first}:{way}", f"Only documents whose {first} is {said} this; {_NAMED}", typed)
            for way, said in (("gte", "at or above"), ("gt", "above"), ("lte", "at or below"), ("lt", "below"))
        ]
    if has_total:
        described.append(parameter("total", "Also how many documents the group has.", {"type": "boolean"}))
    return described


def _cursor(text: str) -> Any:
    return (str | None, Field(description=text, examples=[_CURSOR]))
