"""Warming: having the cache read what will be asked for, before anybody asks.

First pages of a list, group after group, and the documents that are read most. They are read through the same reader
as by callers, so whatever is cached already is a hit and costs MongoDB nothing, and several processes that warm at
once share their reads.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import orjson

from neverstale.api.derived.pages import PageKey, PageSource
from neverstale.api.derived.sources import Sources
from neverstale.api.health import ReadHealth
from neverstale.api.reads.answer import Answer
from neverstale.api.reads.reader import Reader
from neverstale.bson.texts import text_of
from neverstale.catalog import Resource, Warm
from neverstale.catalog.declarations import CounterDeclaration
from neverstale.derived import groups
from neverstale.derived.counters import queries
from neverstale.derived.queries import aggregate
from neverstale.errors import NeverstaleError, Outage, Overloaded, Refused
from neverstale.keys import KeyValue, value_of
from neverstale.mongodb.loader import Loader
from neverstale.redis.most_read import Popularity
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import forever

log = telemetry.logger(__name__)

T = TypeVar("T")

MOST_GROUPS: Final = 10_000
"""So many of one list; the largest are not known, so these are any."""
PART: Final = "warm"
"""In `/readyz`."""
LOOK_SECONDS: Final = 1.0
KEYS_A_READ: Final = 20
PAUSE_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 30.0
"""How long one read is tried again, while a server is away or the cache takes nothing yet."""

Show = Callable[[str, int, int], None]
"""Told of the resource, how many reads are done, and of how many."""


@dataclass(slots=True)
class Warmed:
    """What was read, and how much of it the cache holds now."""

    pages: int = 0
    documents: int = 0
    hits: int = 0
    """They were there before."""
    past: int = 0
    """The cache did not take them."""

    def note(self, answer: Answer) -> None:
        self.hits += answer.how == "hit"
        self.past += answer.how == "bypass"


class Warmer:
    """Warms the cache with the reader of one process."""

    def __init__(self, reader: Reader, loader: Loader, popularity: Popularity, sources: Sources) -> None:
        self._reader = reader
        self._loader = loader
        self._popularity = popularity
        self._sources = sources

    def _pages(self, resource: Resource, wanted: Warm) -> PageSource:
        return self._sources.named(PageSource, f"{resource.name}.{wanted.source}")

    async def warm(self, resource: Resource, wanted: Warm, per_second: float, show: Show) -> Warmed:
        """Reads what is wanted of a resource, at most `per_second` pages and documents.

        Raises what reading raises, once patience has ended.
        """
        pace, warmed = _Pace(per_second), Warmed()
        pages = self._pages(resource, wanted) if wanted.source else None
        found = await _patiently(lambda: self._groups(pages)) if pages is not None else []
        keys = await _patiently(lambda: self._most_read(resource, wanted.most_read))
        total = len(found) * wanted.pages + len(keys)
        show(resource.name, 0, total)
        for number, values in enumerate(found, 1):
            assert pages is not None
            await self._warm_group(pages, values, wanted.pages, pace, warmed)
            show(resource.name, number * wanted.pages, total)
        for start in range(0, len(keys), KEYS_A_READ):
            await self._warm_documents(resource, keys[start : start + KEYS_A_READ], pace, warmed)
            show(resource.name, len(found) * wanted.pages + warmed.documents, total)
        return warmed

    async def _warm_group(
        self, pages: PageSource, values: Sequence[Any], count: int, pace: "_Pace", warmed: Warmed
    ) -> None:
        group, cursor = groups.group([text_of(value) for value in values]), None
        for _ in range(count):
            await pace.wait(1)
            answer = await self._page(pages, pages.key(group, values, cursor))
            warmed.pages += 1
            warmed.note(answer)
            cursor = orjson.loads(answer.body or b"{}").get("next")
            if cursor is None:
                return

    async def _page(self, pages: PageSource, key: PageKey) -> Answer:
        (answer,) = await _patiently(lambda: _alone(self._reader.get(pages, key)))
        return answer

    async def _warm_documents(
        self, resource: Resource, keys: Sequence[KeyValue], pace: "_Pace", warmed: Warmed
    ) -> None:
        source = self._sources.documents[resource.name]
        await pace.wait(len(keys))
        for answer in await _patiently(lambda: self._reader.get_many(source, keys)):
            warmed.documents += 1
            warmed.note(answer)

    async def _groups(self, pages: PageSource) -> list[Sequence[Any]]:
        """The values of all groups that have documents."""
        declared = pages.declared
        constants = {path: {"$eq": constant} for path, constant in declared.where.items()}
        stages = queries.counter_groups(CounterDeclaration(by=declared.by), {}, limit=MOST_GROUPS)
        command = aggregate(pages.collection, [{"$match": constants}, *stages], MOST_GROUPS)
        found = await self._loader.query(command, 0)
        return [queries.read_counter_row(row, len(declared.by), 0).values for row in found.rows]

    async def _most_read(self, resource: Resource, count: int) -> list[KeyValue]:
        return [value_of(one.key) for one in await self._popularity.most(resource.name, count)] if count else []


class KeepWarm:
    """Warms what the catalog says: when the process starts, and again when all that was warmed is gone, with its
    Redis or the generation that it was in.

    Only at the start the process is not ready meanwhile, and no longer than `deadline_seconds`: when a Redis is lost
    under way, answers from MongoDB are better than none.
    """

    def __init__(
        self,
        warmer: Warmer,
        resources: Sequence[Resource],
        held: Callable[[Resource], str | None],
        health: ReadHealth,
        per_second: float,
    ) -> None:
        """`held`: what the cache of a resource lies in, by name; `None`: nothing can be kept now."""
        self._warmer = warmer
        self._resources = resources
        self._held = held
        self._health = health
        self._per_second = per_second
        self._warmed: dict[str, str] = {}
        self._refused: set[str] = set()
        """What MongoDB refuses to read: the process need not wait for that."""

    async def run(self, deadline_seconds: float) -> NoReturn:
        """Until cancelled."""
        self._health.warming = deadline_seconds > 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                while len(self._warmed.keys() | self._refused) < len(self._resources):
                    cancellation.heed()
                    await self._look()
                    await asyncio.sleep(PAUSE_SECONDS)
        self._health.warming = False
        await forever(self._look_again)

    async def _look_again(self) -> float:
        await self._look()
        return LOOK_SECONDS

    async def _look(self) -> None:
        for resource in self._resources:
            held = self._held(resource)
            if held is None or self._warmed.get(resource.name) == held or resource.warm is None:
                continue
            try:
                warmed = await self._warmer.warm(resource, resource.warm, self._per_second, self._show)
            except NeverstaleError as error:
                if isinstance(error, Refused) and error.lasts:
                    self._refused.add(resource.name)
                self._health.wrong(PART, f"{resource.name}: {error}")
                log.warning("warming_failed", resource=resource.name, reason=str(error))
                continue
            self._warmed[resource.name] = held
            log.info(
                "warmed", resource=resource.name, pages=warmed.pages, documents=warmed.documents, hits=warmed.hits
            )
            self._health.ok(PART)

    def _show(self, resource: str, done: int, total: int) -> None:
        self._health.wrong(PART, f"{resource}: {done} of {total}")


class _Pace:
    """Reads are at least so far apart, in the mean."""

    def __init__(self, per_second: float) -> None:
        self._pause = 1 / per_second
        self._next = time.monotonic()

    async def wait(self, reads: int) -> None:
        now = time.monotonic()
        self._next = max(self._next, now - 1) + reads * self._pause
        await asyncio.sleep(max(0.0, self._next - now))


async def _patiently(read: Callable[[], Awaitable[Sequence[T]]]) -> Sequence[T]:
    """Read, again and again while a server is away or busy, or the cache cannot be asked, for a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        last = time.monotonic() > deadline
        try:
            found = await read()
            if last or not any(isinstance(one, Answer) and one.how == "bypass" for one in found):
                return found
        except (Outage, Overloaded):
            if last:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _alone(answer: Awaitable[Answer]) -> list[Answer]:
    return [await answer]
