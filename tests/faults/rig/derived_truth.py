"""Everything derived of one resource, asked of the API, and MongoDB's own answer to the same."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from neverstale.ops.http_client import Connection, HttpAnswer
from neverstale.ops.truth.oracle import Tally
from tests.support.diary import Diary, Document
from tests.worlds.deriving import RESOURCE

CATALOG: Final = """
database = "{database}"

[resources.flights]
key_type = "string"
on_change = "invalidate"
fields = {{ origin = "string", day = "int", gate = "string", stand = "string", tags = "array" }}

[resources.flights.lists.departures]
by = ["origin", "day"]
where = {{ cancelled = false }}
sort = ["gate"]
page_size = 200

[resources.flights.lists.at_stand]
by = ["stand"]

[resources.flights.lists.everything]
page_size = 7
cached_pages = 2

[resources.flights.counters.by_status]
by = ["origin", "status"]

[resources.flights.counters.totals]
sums = {{ delay = {{ field = "delay", scale = 2 }} }}

[resources.flights.counters.by_tag]
by = ["tags"]
sums = {{ delay = {{ field = "delay", scale = 2 }} }}

[resources.flights.rankings.late]
by = ["day"]
score = "delay"
size = 1000

[resources.flights.rankings.early]
score = "-delay"
size = 1000
"""
FIELDS: Final = ("_id", "origin", "day", "gate", "stand", "tags")
ORIGINS: Final = ("JFK", "LGA", "EWR", None)
DAYS: Final = (0, 1, 2, None)
ANSWER_SECONDS: Final = 10.0
HIT_SECONDS: Final = 20.0

Values: TypeAlias = Mapping[str, Any]
DEPARTURES: Final[Sequence[Values]] = [{"origin": origin, "day": day} for origin in ORIGINS for day in DAYS]


@dataclass(frozen=True, slots=True)
class Page:
    """The only page of a group."""

    values: Values
    shown: Mapping[str, Document]
    start: float
    end: float
    bound: float


def bound_of(answer: HttpAnswer) -> float:
    """Seconds; NaN: the answer does not state any."""
    bound = answer.headers.get("neverstale-bound", "unknown")
    return nan if bound == "unknown" else float(bound)


def judge(page: Page, diary: Diary, tally: Tally) -> None:
    """A page that misses a change which is older than its bound: a document that is not in it as it may be."""
    for key in diary.keys:
        shown = page.shown.get(key)
        possible = diary.possible(key, page.start - page.bound, page.end)
        good = any(shown == _shown(state, page.values) for state in possible)
        if not good:
            tally.note(True, "departures of", page.values, "show", shown, "for", key, "which may be", possible)
            return
    tally.note(False)


def _shown(document: Document | None, values: Values) -> Document | None:
    """What the page of a group of departures has of a document."""
    if document is None or document.get("cancelled") is not False:
        return None
    if any(document.get(name) != value for name, value in values.items()):
        return None
    return {name: document[name] for name in FIELDS if name in document}


class Asked:
    """Asks one API over one connection, which is made anew when it breaks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def get(self, path: str, *headers: str) -> HttpAnswer:
        if self._connection is None or not self._connection.usable:
            self._connection = await Connection.open(self._url)
        return await self._connection.get(path, ANSWER_SECONDS, *headers)

    async def derived(self, path: str, values: Values, more: str = "") -> HttpAnswer:
        query = "&".join(_parameter(*pair) for pair in values.items())
        return await self.get(f"/v1/{RESOURCE}/-/{path}?{query}{more}")

    async def page(self, values: Values) -> Page | None:
        """A group of departures; `None`: no answer that shows it whole."""
        start = time.monotonic()
        answer = await self.derived("lists/departures", values)
        end = time.monotonic()
        if answer.status != 200:
            return None
        body = json.loads(answer.body)
        shown = {item["_id"]: item for item in body["items"]}
        return None if body["next"] is not None else Page(values, shown, start, end, bound_of(answer))

    async def pages(self, name: str, values: Values) -> list[Any]:
        """A group of a list, page by page; an answer that is none shows nothing."""
        found: list[Any] = []
        cursor = ""
        while True:
            answer = await self.derived(f"lists/{name}", values, cursor)
            if answer.status != 200:
                return [answer.status]
            body = json.loads(answer.body)
            found += body["items"]
            if body["next"] is None:
                return found
            cursor = f"&cursor={quote(body['next'], safe='')}"

    async def until_hit(self, path: str, values: Values, more: str = "") -> Any:
        """What Redis says, not MongoDB; `None`: nothing, for long."""
        deadline = time.monotonic() + HIT_SECONDS
        while time.monotonic() < deadline:
            answer = await self.derived(path, values, more)
            if "; hit" in answer.headers.get("cache-status", ""):
                return json.loads(answer.body)
            await asyncio.sleep(0.05)
        return None

    async def until_known(self, version: int, resource: str = RESOURCE) -> bool:
        """Wait until this API knows that everything up to a version is applied."""
        deadline = time.monotonic() + HIT_SECONDS
        while time.monotonic() < deadline:
            answer = await self.get("/v1/freshness")
            mark = json.loads(answer.body)["resources"][resource]["watermark"]
            if mark is not None and int(mark, 16) >= version:
                return True
            await asyncio.sleep(0.02)
        return False


def _parameter(name: str, value: Any) -> str:
    return f"{name}:null" if value is None else f"{name}={quote(str(value), safe='')}"


@dataclass(frozen=True, slots=True)
class Compared:
    """Wrong of checked."""

    pages: Tally
    groups: Tally
    scores: Tally


async def compared(asked: Asked, documents: Any, stands: Iterable[str]) -> Compared:
    """Ask for everything, now that nobody writes and all is applied."""
    pages, groups, scores = Tally(), Tally(), Tally()
    wanted = [("departures", values, dict(values) | {"cancelled": False}, [("gate", 1)]) for values in DEPARTURES]
    wanted += [("at_stand", {"stand": stand}, {"stand": stand}, []) for stand in (*stands, None)]
    wanted += [("everything", {}, {}, [])]
    for name, values, query, sort in wanted:
        found = documents.find(query, dict.fromkeys(FIELDS, 1)).sort([*sort, ("_id", 1)])
        expected, shown = await found.to_list(), await asked.pages(name, values)
        pages.note(shown != expected, name, values, "shows", shown, "instead of", expected)
    for name, by, stages in COUNTERS:
        expected = {
            _named(row["_id"]): (row["n"], row["delay"]) async for row in await documents.aggregate([*stages])
        }
        kept = await asked.until_hit(f"counters/{name}", {}, f"group={','.join(by)}")
        _compare(groups, name, expected, None if kept is None else _groups(kept, by))
    for name, values, query, way in _rankings():
        found = documents.find(query | {"delay": {"$type": "number"}}, {"delay": 1})
        rows = await found.sort([("delay", -way), ("_id", 1)]).to_list()
        kept = await asked.until_hit(f"rankings/{name}", values)
        told = (
            None if kept is None else {place: (one["key"], one["score"]) for place, one in enumerate(kept["items"])}
        )
        ranked = {place: (row["_id"], row["delay"]) for place, row in enumerate(rows[:100])}
        _compare(scores, f"{name} {values}", ranked, None if told is None else dict(list(told.items())[:100]))
    return Compared(pages, groups, scores)


def _compare(tally: Tally, name: str, expected: Mapping[Any, Any], kept: Mapping[Any, Any] | None) -> None:
    if kept is None:
        tally.note(True, name, "is not answered from Redis")
        return
    for group in {*expected, *kept}:
        is_wrong = kept.get(group) != expected.get(group)
        tally.note(is_wrong, name, "of", group, "is", kept.get(group), "instead of", expected.get(group))


def _groups(kept: Any, by: Sequence[str]) -> dict[tuple[Any, ...], tuple[int, float]]:
    if "groups" not in kept:
        kept = {"groups": [kept | {"by": {}}] if kept["count"] else []}
    return {
        tuple(row["by"][name] for name in by): (row["count"], row["sums"].get("delay", 0)) for row in kept["groups"]
    }


def _named(group: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return tuple((group or {}).values())


def _or_null(path: str) -> Any:
    return {"$ifNull": [f"${path}", None]}


_DELAY: Final = {"$sum": "$delay"}
_EACH_TAG: Final[Sequence[Any]] = (
    {"$set": {"tags": {"$cond": [{"$isArray": "$tags"}, {"$setUnion": ["$tags", []]}, [_or_null("tags")]]}}},
    {"$unwind": "$tags"},
    {"$group": {"_id": {"tags": "$tags"}, "n": {"$sum": 1}, "delay": _DELAY}},
)
_EACH_STATUS: Final = {"origin": _or_null("origin"), "status": _or_null("status")}
COUNTERS: Final[Sequence[tuple[str, Sequence[str], Sequence[Any]]]] = (
    (
        "by_status",
        ("origin", "status"),
        [{"$group": {"_id": _EACH_STATUS, "n": {"$sum": 1}, "delay": {"$sum": 0}}}],
    ),
    ("totals", (), [{"$group": {"_id": None, "n": {"$sum": 1}, "delay": _DELAY}}]),
    ("by_tag", ("tags",), _EACH_TAG),
)


def _rankings() -> Iterator[tuple[str, Values, dict[str, Any], int]]:
    for day in DAYS:
        yield "late", {"day": day}, {"day": day}, 1
    yield "early", {}, {}, -1
