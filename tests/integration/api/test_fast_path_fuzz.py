"""Whatever is asked, the fast path answers what the routes answer: some hundred random requests, or
`NEVERSTALE_TEST_DIFFERENCES=10000` of them (`make fuzz`)."""

import os
import re
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final

import pytest

from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Client, Served, status, unmoved

CASES: Final = int(os.environ.get("NEVERSTALE_TEST_DIFFERENCES", "300"))
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


async def test_random_requests_are_answered_alike_before_asgi_and_behind_it(served: Served) -> None:
    dice = Random(int(os.environ.get("NEVERSTALE_TEST_SEED", "1")))
    statuses: dict[int, int] = {}
    async with served.routes() as ordinary, served.connection() as first:
        for path in ("/v1/things/a", "/v1/things/long", "/v1/numbers/7"):

            async def hit(path: str = path) -> bool:
                return b"; hit" in (await first.get(path)).partition(b"\r\n\r\n")[0]

            await eventually(hit, f"{path} is cached")
        found = re.search(rb'etag: "(\w+)"', await first.get("/v1/things/a"))
        assert found is not None
        for _ in range(CASES):
            line, given = target(dice), headers(dice, found[1].decode())
            method = dice.choice(("GET", "GET", "GET", "HEAD"))
            async with served.connection() as fast, served.connection(ordinary) as slow:
                one, other = [await twice(client, line, given, method) for client in (fast, slow)]
            assert comparable(one) == comparable(other), (method, line, given)
            statuses[status(one)] = statuses.get(status(one), 0) + 1
    assert statuses.get(200, 0) > CASES / 10 and {304, 400, 404} <= statuses.keys()


async def twice(client: Client, line: str, given: Sequence[str], method: str) -> bytes:
    """The second answer: by then what can be kept is."""
    for _ in range(2):
        try:
            answered = await client.get(line, *given, method=method)
        except EOFError:
            return b"HTTP/1.1 000 closed\r\n\r\n"
    return answered
