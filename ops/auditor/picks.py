"""Picks: what is asked next. Some of everything, some of what is read most, and some of what was just changed."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from random import Random
from typing import Any, Final

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.api.derived.sources import Sources
from neverstale.catalog import Catalog, Resource
from neverstale.errors import Outage
from neverstale.keys import canonical, type_matches, value_of
from neverstale.ops.auditor.feed import Feed
from neverstale.ops.auditor.judging.questions import (
    AuditQuestion,
    Document,
    Subject,
    about_document,
    fields_of,
    subjects_of,
)
from neverstale.redis.most_read import Popularity
from neverstale.role import telemetry

SAMPLE: Final = 2000
"""Documents of a resource that are drawn at once."""
MOST_READ: Final = 200
FOUND_SECONDS: Final = 5.0
FEW: Final = 20
"""Documents that were just changed whose groups are looked at."""

ASKED: Final = 200
"""Questions about what is derived of a resource that are remembered."""
CHANGED, LEFT, ANY, AGAIN = "changed", "left", "any", "again"


class Picks:
    def __init__(
        self,
        client: AsyncMongoClient[dict[str, Any]],
        catalog: Catalog,
        sources: Sources,
        feed: Feed,
        popularity: Popularity,
        dice: Random,
        *,
        fills: bool,
    ) -> None:
        """`fills`: what nobody reads is asked for, too, and so cached."""
        self._fills = fills
        self._database = client[catalog.database]
        self._catalog = catalog
        self._sources = sources
        self._subjects = subjects_of(catalog, sources)
        self._feed = feed
        self._popularity = popularity
        self._dice = dice
        self._drawn: dict[str, list[Document]] = {}
        self._asked: dict[str, deque[AuditQuestion]] = {name: deque(maxlen=ASKED) for name in catalog.resources}
        self._kinds = cycle((CHANGED, LEFT, ANY, AGAIN))
        self._read: dict[str, list[Any]] = {}

    async def draw(self) -> None:
        """Draw documents of each resource, and learn what is read most. What cannot be had stays as it was."""
        for name, resource in self._catalog.resources.items():
            stages = [{"$sample": {"size": SAMPLE}}, {"$project": fields_of(self._subjects[name])}]
            drawn = await self._found({"aggregate": resource.collection, "pipeline": stages, "cursor": {}})
            self._drawn[name] = drawn or self._drawn.get(name, [])
            if resource.most_read:
                try:
                    most = await self._popularity.most(name, MOST_READ)
                except Outage:
                    continue
                self._read[name] = [value_of(one.key) for one in most if type_matches(one.key, resource.key_type)]

    def documents(self, resource: Resource, most: int) -> list[AuditQuestion]:
        """A third each, or more of what there is; each key once."""
        changed = self._changed(resource, self._feed.take(resource.collection, -(-most // 3)))
        read = self._some(self._read.get(resource.name, ()), -(-most // 3))
        rest = max(0, most - len(changed) - len(read))
        drawn = [document["_id"] for document in self._some(self._drawn.get(resource.name, ()), rest)]
        found = {canonical(key): (key, False) for key in self._usable(resource, drawn)}
        found |= {canonical(key): (key, True) for key in (*read, *changed)}
        return [
            about_document(self._sources, resource, key, cached_only=not (wanted or self._fills))
            for key, wanted in found.values()
        ][:most]

    async def derived(self, resource: Resource, most: int) -> list[AuditQuestion]:
        """Of pages, counters and rankings: of groups of what was just changed, and of those that it has left; of some
        of everything; and of what was asked for before, since only what is cached can be stale."""
        subjects = self._subjects[resource.name]
        if not subjects or not most:
            return []
        keys = self._changed(resource, self._feed.peek(resource.collection, FEW))
        find = {"find": resource.collection, "filter": {"_id": {"$in": keys}}, "projection": fields_of(subjects)}
        changed = await self._found(find) if keys else []
        drawn, asked = self._drawn.get(resource.name, ()), self._asked[resource.name]
        those = set(map(canonical, keys))
        left = [document for document in drawn if canonical(document["_id"]) in those]
        found: dict[tuple[str, str], AuditQuestion] = {}
        for _ in range(2 * most):
            documents = next(self._kinds)
            if documents == AGAIN and asked:
                question: AuditQuestion | None = self._dice.choice(asked)
            else:
                some = {CHANGED: changed, LEFT: left}.get(documents, ())
                question = self._about(resource, subjects, some or drawn)
            if question is not None:
                found[question.name] = question
        asked.extend(found.values())
        return list(found.values())[:most]

    def _about(
        self, resource: Resource, subjects: Sequence[Subject], documents: Sequence[Document]
    ) -> AuditQuestion | None:
        document = self._dice.choice(documents) if documents else {}
        return self._dice.choice(subjects).of(document, resource)

    def _changed(self, resource: Resource, keys: Iterable[Any]) -> list[Any]:
        return list(self._usable(resource, keys))

    @staticmethod
    def _usable(resource: Resource, keys: Iterable[Any]) -> list[Any]:
        """Those that can be asked for."""
        return [key for key in keys if key != "" and type_matches(canonical(key), resource.key_type)]

    def _some(self, of: Sequence[Any], most: int) -> list[Any]:
        return self._dice.sample(of, min(most, len(of)))

    async def _found(self, command: Mapping[str, Any]) -> list[Document]:
        telemetry.AUDIT_MONGODB_READS.inc()
        try:
            with pymongo.timeout(FOUND_SECONDS):
                reply = await self._database.command(dict(command))
        except PyMongoError:
            return []
        found: list[Document] = reply["cursor"]["firstBatch"]
        return found
