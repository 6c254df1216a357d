"""Whatever is asked, the fast path answers what the routes answer: some hundred random requests, or
`NEVERSTALE_TEST_DIFFERENCES=10000` of them (`make fuzz`)."""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Final

import pytest

from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Client, Served, header, status, unmoved

CASES: Final = int(os.environ.get("NEVERSTALE_TEST_DIFFERENCES", "300"))
LANES: Final = 6
"""Connections of each kind at once."""
CASES_A_CONNECTION: Final = 50
KEYS: Final = ("a", "long", "x%2Fy%3A%20z", "absent", "%61", "a%00", "%E2%82%AC", "a,b", "~", "a%2f", "%")
SEGMENTS: Final = ("things", "numbers", "%74hings", "thing", "-", "")
NUMBERS: Final = ("7", "-7", "07", "+7", "7.0", "9" * 20, "%37", "0")
QUERIES: Final = ("", "?", "?keys=a", "?a=b", "?%", "#x")
ODD: Final = "!$&'()*+,;=:@%._~-/?#[]{}|^`\"<>\\aZ0"
HEADERS: Final = (
    *(
        "Accept-Encoding: gzip",
        "Accept-Encoding: br;q=0.1, gzip",
        "Accept-Encoding: identity",
        "Accept-Encoding: ,;q=",
    ),
    *('If-None-Match: "{etag}"', 'If-None-Match: W/"{etag}", "b"', "If-None-Match: *", "If-None-Match: x"),
    *('If-Match: "{etag}"', 'If-Match: "b"', "Cache-Control: max-age=60", "Cache-Control: only-if-cached"),
    *("Cache-Control: no-transform, x", "Cache-Control: max-age=", "Neverstale-Min-Version: 0000000000000001"),
    *(
        "Neverstale-Min-Version: x",
        "Neverstale-Audit: 1",
        "X-Odd: \t a",
        "Connection: keep-alive",
        "Accept: text/html",
    ),
    *("Cookie: a=b", "If-Modified-Since: now", "Range: bytes=0-1", "X-Forwarded-For: 1.2.3.4, x"),
)
LATER: Final = re.compile(rb"(cache-status|neverstale-version): [^\r]*\r\n")
"""What an absence says differs from one answer to the next: whether it is kept is a matter of its limit."""


@pytest.fixture
async def served(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[Served]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, absences_per_second=1_000_000)
    async with World.of(settings, catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1}, {"_id": "long", "text": "long " * 400}, {"_id": "x/y: z"})
        await world.write("numbers", {"_id": 7, "name": "seven"})
        async with Served.of(world) as served:
            await served.mark()
            yield served


def target(dice: Random) -> str:
    segment = dice.choice(SEGMENTS) if dice.random() < 0.3 else dice.choice(("things", "numbers"))
    key = dice.choice(NUMBERS if segment == "numbers" and dice.random() < 0.8 else KEYS)
    path = f"/v1/{segment}/{key}{dice.choice(QUERIES) if dice.random() < 0.2 else ''}"
    if dice.random() < 0.25:
        place = dice.randrange(1, len(path) + 1)
        path = path[:place] + dice.choice(ODD) + path[place:]
    return path


def headers(dice: Random, etag: str) -> Sequence[str]:
    wanted = dice.sample(HEADERS, dice.choice((0, 0, 1, 1, 2, 3)))
    return [line.replace("{etag}", etag) for line in wanted]


def comparable(response: bytes) -> bytes:
    """What must be the same, whichever way an answer took."""
    same = unmoved(response).replace(b"detail=l1", b"detail=l2")
    head, blank, body = same.partition(b"\r\n\r\n")
    lines = LATER.sub(b"", head + b"\r\n") if status(response) == 404 else head + b"\r\n"
    return b"\r\n".join(sorted(lines.split(b"\r\n"))) + blank + body


class Way:
    """One way that requests take: a connection that is kept as long as the server keeps it."""

    def __init__(self, served: Served, port: int | None) -> None:
        self._served = served
        self._port = port
        self._client: Client | None = None
        self._open = AsyncExitStack()

    async def twice(self, line: str, given: Sequence[str], method: str) -> bytes:
        """The second answer: by then what can be kept is."""
        for _ in range(2):
            if self._client is None:
                self._client = await self._open.enter_async_context(self._served.connection(self._port))
            try:
                answered = await self._client.get(line, *given, method=method)
            except (EOFError, ConnectionError):
                answered = b"HTTP/1.1 000 closed\r\n\r\n"
            if status(answered) == 0 or header(answered, "connection") == "close":
                await self.close()
        return answered

    async def close(self) -> None:
        self._client = None
        await self._open.aclose()


async def test_random_requests_are_answered_alike_before_asgi_and_behind_it(served: Served) -> None:
    """On connections that are kept, so that each request is also asked behind any other one."""
    seed = int(os.environ.get("NEVERSTALE_TEST_SEED", "1"))
    statuses: Counter[int] = Counter()
    async with served.routes() as ordinary, served.connection() as first:
        for path in ("/v1/things/a", "/v1/things/long", "/v1/numbers/7"):

            async def hit(path: str = path) -> bool:
                return b"; hit" in (await first.get(path)).partition(b"\r\n\r\n")[0]

            await eventually(hit, f"{path} is cached")
        etag = header(await first.get("/v1/things/a"), "etag")
        assert etag is not None

        async def lane(dice: Random) -> None:
            fast, slow = Way(served, None), Way(served, ordinary)
            for number in range(CASES // LANES):
                line, given = target(dice), headers(dice, etag.strip('"'))
                method = dice.choice(("GET", "GET", "GET", "HEAD"))
                one, other = await asyncio.gather(*(way.twice(line, given, method) for way in (fast, slow)))
                assert comparable(one) == comparable(other), (method, line, given)
                statuses[status(one)] += 1
                if number % CASES_A_CONNECTION == 0:
                    await fast.close()
                    await slow.close()
            await fast.close()
            await slow.close()

        async with asyncio.TaskGroup() as group:
            for number in range(LANES):
                group.create_task(lane(Random(seed * LANES + number)))
    assert statuses[200] > CASES / 20 and {304, 400, 404} <= statuses.keys()
    print(f"{statuses.total():,} requests were answered alike: {dict(sorted(statuses.items()))}")
