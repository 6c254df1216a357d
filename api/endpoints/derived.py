"""`/v1/{resource}/-/…`: lists, counters and rankings, from an ASGI request to their sources and back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from prometheus_client import Histogram
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.callers.middleware import visit_of
from neverstale.api.derived.counters import CounterSource, CountKey
from neverstale.api.derived.pages import PageKey
from neverstale.api.derived.rankings import RankingSource, RankKey
from neverstale.api.derived.totals import Totals, count_in, wanted_counter
from neverstale.api.hits.request_lines import page_of
from neverstale.api.linked.linker import Linker
from neverstale.api.linked.many import Many
from neverstale.api.linked.parameters import EXPAND, view_of
from neverstale.api.linked.reading import reading
from neverstale.api.linked.view import Views
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import key_of, listed, parameters_of, text_of
from neverstale.api.web.preconditions import Conditions, conditions_of
from neverstale.api.web.problems import bad_parameter, switched_off, unranked
from neverstale.api.web.query import Asked, asked, whole_number
from neverstale.api.web.responses import absent, facts_of, found_or_unchanged, shared_headers
from neverstale.api.web.unread import hold_for
from neverstale.catalog import Resource
from neverstale.role import telemetry

TOTAL: Final = "total"
SHOWN: int = 100
"""So many of a ranking, if the caller does not say how many."""
MOST_AROUND: int = 100


class ListEndpoint:
    """`GET /v1/{resource}/-/lists/{list}?by…&cursor=…&limit=…&total=true`."""

    def __init__(
        self, resource: Resource, list_name: str, resources: Mapping[str, Resource], totals: Totals | None
    ) -> None:
        """`resources`: all of the catalog. `totals`: `None`: nothing tells them."""
        self._views = Views(resource, resources)
        self._name = resource.name, list_name
        self._totals = totals
        self._wanted_counter = wanted_counter(resource.lists[list_name])
        self._seconds = telemetry.READ_SECONDS.labels(f"{resource.name}.lists.{list_name}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        pages, reader = state_of(scope).sources.pages[self._name], state_of(scope).reader
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
        visit_of(scope).decide(Reads(self._name[0], "counters"))
        return self._totals

    async def _count(self, scope: Scope, totals: Totals | None, key: PageKey, wish: Wish) -> Answer | None:
        if totals is None:
            return None
        known = state_of(scope).known[self._name[0]]
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


class RankingEndpoint:
    """`GET /v1/{resource}/-/rankings/{ranking}?by…&limit=…`."""

    def __init__(self, ranks: RankingSource) -> None:
        self._ranks = ranks
        self._seconds = telemetry.READ_SECONDS.labels(ranks.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        key, wish = self.key(scope["query_string"]), wish_of(scope["headers"])
        conditions = conditions_of(scope["headers"])
        answer = await _rank(scope, self._ranks)(key, wish)
        await respond(
            scope, receive, send, conditions, answer, b"", self._seconds, started, {self._ranks.resource.name}
        )

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
        answer = await _rank(scope, self._ranks)(key, wish)
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

    def key(self, segment: str, query: bytes) -> RankKey:
        """What a path segment and a query string ask for; a `Problem` if that makes no sense."""
        ranks, by = self._ranks, self._ranks.declared.by
        document = key_of(segment, ranks.resource)
        said = asked(query, ranks.resource, by, ("around",), whole=True)
        around = whole_number(said, "around", 0, 0, MOST_AROUND)
        return ranks.key(said.group(by), [said.values[path] for path in by], document, around)


def _rank(scope: Scope, ranks: RankingSource) -> Callable[..., Awaitable[Answer]]:
    figures = state_of(scope).figures
    known = state_of(scope).known[ranks.resource.name]
    return lambda key, wish: figures.get(ranks, known, key, wish)


async def respond(
    scope: Scope,
    receive: Receive,
    send: Send,
    conditions: Conditions,
    answer: Answer,
    absence: bytes,
    seconds: Histogram,
    started: float,
    resources: Collection[str],
) -> None:
    """Sends an answer; `absence`: what is said where there is nothing; `resources`: what it is about."""
    reader = state_of(scope).reader
    facts = facts_of(answer, reader.bound(answer))
    if answer.body is None:
        response = absent(facts, absence, shared_headers(scope, resources))
    else:
        response = found_or_unchanged(scope, conditions, facts, answer.etag, (answer.body,), resources)
    seconds.observe(time.perf_counter() - started)
    await response(scope, receive, send)
