"""The boards: departures by airport and day, counts by status, delays by carrier, and the most delayed flights.

While writers run, somebody looks at them all the time, so that pages are cached and must go stale. At the end each is
compared with what MongoDB holds; what it should say is made here from the documents, without neverstale's code.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from neverstale.ops.demo.flights.board import Document
from neverstale.ops.demo.sweep import PATIENCE_SECONDS, answer_of, json_of
from neverstale.ops.http_client import Connection
from neverstale.ops.truth.oracle import Tally

LOOK_SECONDS: Final = 0.02
"""Between two looks of the onlooker."""
LEADERS: Final = 100
GROUPS: Final = 1000
BASE: Final = "/v1/flights/-"

Group = tuple[str, ...]


@dataclass
class Boards:
    """What the service told at the end."""

    wrong: Tally = field(default_factory=Tally)
    """Pages, groups and rankings that are not what MongoDB says."""
    hits: int = 0
    """Answers that came from the cache."""
    answers: int = 0
    departures: list[Document] = field(default_factory=list)
    """The first page of the last airport and day."""
    statuses: Counter[str] = field(default_factory=Counter)
    carriers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Carrier -> flights, minutes of delay."""
    delayed: list[tuple[str, int]] = field(default_factory=list)
    """Flight and minutes: the most delayed of all days."""


def paths(flights: Iterable[Document]) -> list[str]:
    """First pages, counters and rankings: what an onlooker looks at."""
    airports, days = set(), set()
    for flight in flights:
        airports.add(flight["origin"])
        days.add(flight["day"])
    boards = [_departures(origin, day) for origin in sorted(airports) for day in sorted(days)]
    return [*boards, _by_status(), _by_carrier(), *map(_most_delayed, sorted(days))]


async def look(url: str, wanted: Sequence[str], random: Random) -> None:
    """Look at one after the other, for ever, whatever happens to the service."""
    connection: Connection | None = None
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        with contextlib.suppress(OSError):
            if connection is None or not connection.usable:
                connection = await Connection.open(url)
            await connection.get(random.choice(wanted), PATIENCE_SECONDS)


async def check(url: str, stored: Mapping[str, Document], shown: Container[str]) -> Boards:
    """Ask for every page, counter and ranking, and compare. `shown`: the fields that are served."""
    found = Boards()
    asking = _Asker(url, found)
    flights = [
        {name: json_of(value) for name, value in flight.items() if name in shown} for flight in stored.values()
    ]
    try:
        await _check_departures(asking, flights, found)
        await _check_statuses(asking, flights, found)
        await _check_carriers(asking, flights, found)
        await _check_delays(asking, flights, found)
    finally:
        asking.close()
    return found


class _Asker:
    """One connection, and what came from the cache."""

    def __init__(self, url: str, found: Boards) -> None:
        self._url = url
        self._found = found
        self._connection: Connection | None = None

    async def __call__(self, path: str) -> Any:
        self._connection, answer = await answer_of(self._url, path, self._connection)
        self._found.answers += 1
        self._found.hits += answer.headers.get("cache-status", "").startswith("neverstale; hit")
        return orjson.loads(answer.body)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


async def _check_departures(ask: _Asker, flights: Sequence[Document], found: Boards) -> None:
    expected: defaultdict[Group, list[Document]] = defaultdict(list)
    for flight in sorted(flights, key=lambda flight: (flight["sched_dep"], flight["_id"])):
        expected[flight["origin"], flight["day"]]  # a board without departures is one, too
        if flight["cancelled"] is False:
            expected[flight["origin"], flight["day"]].append(flight)
    for (origin, day), wanted in sorted(expected.items()):
        told = await _pages(ask, _departures(origin, day))
        if told:
            found.departures = told[0]
        place = 0
        for page in told:
            found.wrong.note(page != wanted[place : place + len(page)], "departures of", origin, day, "from", place)
            place += len(page)
        found.wrong.note(place != len(wanted), "departures of", origin, day, "are", place, "not", len(wanted))


async def _pages(ask: _Asker, path: str) -> list[list[Document]]:
    told, cursor = [], None
    while True:
        page = await ask(path if cursor is None else f"{path}&{urlencode({'cursor': cursor})}")
        told.append(page["items"])
        cursor = page["next"]
        if cursor is None:
            return told


async def _check_statuses(ask: _Asker, flights: Sequence[Document], found: Boards) -> None:
    expected = Counter((flight["origin"], flight["status"]) for flight in flights)
    told = {(row["by"]["origin"], row["by"]["status"]): row["count"] for row in (await ask(_by_status()))["groups"]}
    for group in expected.keys() | told.keys():
        found.wrong.note(expected.get(group) != told.get(group), "count of", group, "is", told.get(group))
    for (_, status), count in told.items():
        found.statuses[status] += count


async def _check_carriers(ask: _Asker, flights: Sequence[Document], found: Boards) -> None:
    expected: dict[str, tuple[int, int]] = {}
    for flight in flights:
        count, minutes = expected.get(flight["carrier"], (0, 0))
        expected[flight["carrier"]] = count + 1, minutes + (flight.get("dep_delay") or 0)
    rows = (await ask(_by_carrier()))["groups"]
    found.carriers = {row["by"]["carrier"]: (row["count"], row["sums"]["delay_minutes"]) for row in rows}
    for carrier in expected.keys() | found.carriers.keys():
        told = found.carriers.get(carrier)
        found.wrong.note(expected.get(carrier) != told, "flights and delays of", carrier, "are", told)


async def _check_delays(ask: _Asker, flights: Sequence[Document], found: Boards) -> None:
    for day, expected in _leaders(flights):
        items = (await ask(_most_delayed(day)))["items"]
        told = [(item["key"], item["score"]) for item in items]
        ranks = [item["rank"] for item in items]
        right = told == expected and ranks == list(range(1, len(told) + 1))
        found.wrong.note(not right, "the most delayed of", day, "are", told[:3], "not", expected[:3])
        found.delayed += told
    found.delayed.sort(key=lambda one: (-one[1], one[0]))


def _leaders(flights: Sequence[Document]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    of_day: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for flight in flights:
        of_day[flight["day"]]
        if flight.get("dep_delay") is not None:
            of_day[flight["day"]].append((flight["_id"], flight["dep_delay"]))
    for day, delays in sorted(of_day.items()):
        yield day, sorted(delays, key=lambda one: (-one[1], one[0]))[:LEADERS]


def _departures(origin: str, day: str) -> str:
    return f"{BASE}/lists/departures?{urlencode({'origin': origin, 'day': day})}"


def _by_status() -> str:
    return f"{BASE}/counters/by_status?limit={GROUPS}"


def _by_carrier() -> str:
    return f"{BASE}/counters/by_carrier?limit={GROUPS}"


def _most_delayed(day: str) -> str:
    return f"{BASE}/rankings/most_delayed?{urlencode({'day': day, 'limit': LEADERS})}"
