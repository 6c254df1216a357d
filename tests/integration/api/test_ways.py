"""Whatever a request's head says, it is answered alike on the shorter way and on the ordinary one, byte for byte."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from random import Random

import orjson
import pytest
import pytest_asyncio

from tests.worlds import hits as hot_world
from tests.worlds.deriving import RESOURCE
from tests.worlds.serving import DECLARED, Served, cached, flight, in_l1, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "x" * 300
ODD = {"ship to": "new york", "a,b": "c,d", LONG: "100%"}
DECLARED_ODDLY = DECLARED | {
    "lists": DECLARED["lists"] | {"odd": {"by": ["ship to", "a,b"]}},
    "counters": DECLARED["counters"] | {"odd": {"by": ["ship to", "a,b", LONG]}},
}
ROOT = f"/v1/{RESOURCE}"
PAGE = f"{ROOT}/-/lists/departures?origin=WAY&day=1"
ODD_PAGE = f"{ROOT}/-/lists/odd?ship+to=new+york&a%2Cb=c%2Cd"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(mongo_uri, kafka_servers, redis_url, DECLARED_ODDLY) as served:
        way = flight("way", origin="WAY", gate="g" * 2000, tail="N1", seat=7, crew=[{"badge": "b 7"}])
        others = [flight(f"twice{number}", tail="twice") for number in range(2)]
        await served.applied(await served.write(way, flight("o d,d%", origin="WAY", **ODD), *others))
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hot(served: Served) -> AsyncIterator[hot_world.Served]:
    async with hot_world.Served.of(served.world, ws="none") as hot:
        for path in (f"{ROOT}/way", PAGE, ODD_PAGE, f"{ROOT}/-/by/tail/N1", f"{ROOT}/-/by/tail/nobody"):
            await in_l1(hot, path)
        for path in (f"{ROOT}/-/counters/by_status", f"{ROOT}/-/counters/odd", f"{ROOT}/-/rankings/late?day=1"):
            await cached(hot, path)
        yield hot


_MOVING = re.compile(rb"^(date|age|neverstale-bound|neverstale-version|cache-status): [^\r]*", re.MULTILINE)


async def answers(hot: hot_world.Served, port: int, raw: bytes) -> list[bytes]:
    """To one request, twice on one connection, and to another request after it; all without what moves."""
    method = "HEAD" if raw.startswith(b"HEAD") else "GET"
    found: list[bytes] = []
    async with hot.connection(port) as client:
        for each in (raw, raw, hot_world.request("/livez")):
            client.send(each)
            answer = await client.receive(method if each is raw else "GET")
            found.append(_MOVING.sub(rb"\1", answer))
            if b"connection: close" in answer.partition(b"\r\n\r\n")[0]:
                async with asyncio.timeout(10):
                    assert await client.reader.read() == b"", "more than the last answer"
                break
    return found


async def differences(hot: hot_world.Served, requests: Iterable[bytes]) -> list[tuple[bytes, ...]]:
    found = []
    kept: set[bytes] = set()
    async with hot.routes() as port:
        for raw in requests:
            if (target := raw.split(b" ", 2)[1]) not in kept:
                await answers(hot, port, raw)  # whatever is not kept yet is kept now
                kept.add(target)
            here, there = await answers(hot, hot.port, raw), await answers(hot, port, raw)
            if here != there:
                found.append((raw, *here, *there))
    return found


KEYS = ("way", "%77ay", "absent", "o%20d%2Cd%25", "o+d", "%zz", "%ff", "%00", "way?", "way?x=1")
SEVERAL = ("keys=way,absent", "keys=o+d%2Cd%25", "keys=%", "kez=1", "=1", "keys=a&%ff=1")
MORE = ("&", "&day=1", "&day:int=1", "&x=1", "&cursor=", "&cursor=AAAA", "&=", "&%zz=1", "&cursor=a&cursor=b")
GROUPS = (
    *("", "origin=WAY", "origin=WAY&day=x", "origin=%C3&day=1", "origin=%57AY&d%61y=1", "origin=100%&day=1"),
    *("origin=a%00b&day=1", "origin=" + "x" * 600 + "&day=1", LONG + "=1", "day:null&origin:null", "day:x=1"),
)
COUNTED = (
    *("by_status?group=origin%2Cstatus&limit=2", "by_status?group=origin,status,x", "by_status?limit=1&limit=1"),
    *(f"odd?group=a%2Cb,ship+to&{LONG}=100%25", "odd?group=a,b", f"odd?{LONG}y=1", f"odd?{LONG}=100%"),
)
RANKED = (
    "late?day=1",
    "late?day=1&limit=0",
    "late/way?day=1",
    "late/%zz?day=1",
    "late/way?day=1&around=x",
    "l%61te?day=1",
)
LOOKED_UP = (
    "tail/N1",
    "t%61il/%4E1",
    "tail/nobody",
    "tail/%ff",
    "tail/N1?x=1",
    "tail/twice",
    "seat/07",
    "crew.badge/b%207",
)
OTHERS = ("/v1/nothing/x", "/v1/freshness?x=1", "/", "//", "http://a", f"http://a{ROOT}/way", f"http://a:80{PAGE}")
SPELLED = f"%{ord(RESOURCE[0]):x}{RESOURCE[1:]}"
TARGETS = (
    *(f"{ROOT}/{key}" for key in KEYS),
    *(f"{ROOT}?{query}" for query in SEVERAL),
    *(f"/v1/{SPELLED}/way", f"/%761/{RESOURCE}/way", f"/v1/{SPELLED}/%2D/l%69sts/departures?origin=WAY&day=1"),
    *(PAGE + more for more in MORE),
    *(f"{ROOT}/-/lists/departures?{query}" for query in GROUPS),
    *(ODD_PAGE, ODD_PAGE.replace("+", "%20"), ODD_PAGE.replace("%2C", ","), ODD_PAGE.replace("+", "%2B")),
    *(f"{ROOT}/-/counters/{counted}" for counted in COUNTED),
    *(f"{ROOT}/-/rankings/{ranked}" for ranked in RANKED),
    *(f"{ROOT}/-/by/{looked_up}" for looked_up in LOOKED_UP),
    *(f"{ROOT}/-/most-read?limit=x", f"{ROOT}/-/most-read/%zz", f"{ROOT}/-/export?fields=nothing"),
    *OTHERS,
)
LINES = (
    "Accept-Encoding: gzip, br",
    "Accept-Encoding: identity",
    "If-None-Match: *",
    'If-None-Match: "a,ETAG,b"',
    'If-None-Match: W/"ETAG"',
    'If-None-Match: "x", "ETAG"',
    "If-None-Match: ETAG",
    'If-None-Match: "x" "ETAG"',
    "If-None-Match: ",
    'If-Match: "ETAG"',
    'If-Match: W/"ETAG"',
    'If-Match: "a,ETAG,b"',
    "If-Match: *",
    'If-Match: "',
    "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    "If-Unmodified-Since: Fri, 31 Dec 9999 23:59:59 GMT",
    "If-Unmodified-Since: never",
    "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT",
    "Cache-Control: max-stale",
    "Cache-Control: max-age=600",
    "Cache-Control: max-age=1.5",
    "Cache-Control: max-age=600, max-age=soon",
    "Cache-Control: only-if-cached, no-cache",
    'Cache-Control: x="no-cache, max-age=-1"',
    "Cache-Control: no-cache=1",
    "Neverstale-Min-Version: 0000000000000001",
    "Neverstale-Min-Version: 0000000000000001, x",
    "Neverstale-Min-Version: ffffffffffffffff",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Upgrade",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "Host: a",
    "Host: a b",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, gzip",
    "Content-Length: 0",
    "Range: bytes=0-1",
    "X-Forwarded-For: 192.0.2.1:80",
    "X-\xe9: a",
    "X: \xe9",
    " folded",
)


def request(target: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("latin-1")


async def test_every_target_and_every_header_is_answered_alike(hot: hot_world.Served) -> None:
    etag = (hot_world.header(await in_l1(hot, f"{ROOT}/way"), "etag") or "").strip('"')
    few: Sequence[str] = (f"{ROOT}/way", PAGE, f"{ROOT}/absent")
    requests = [request(target, "Host: a") for target in TARGETS]
    requests += [request(target, "Host: a", method="HEAD") for target in TARGETS[::5]]
    requests += [request(target, "Host: a", line.replace("ETAG", etag)) for target in few for line in LINES]
    requests += [request(few[0], "Host: a", method=method) for method in ("POST", "OPTIONS", "CONNECT", "TRACE")]
    requests += [request(few[0], "Host: a", version=version) for version in ("1.0", "1.2", "2.0", "0.9", "x")]
    requests += [request(few[0]), request(few[0], "Host:"), request(few[0], "Host: a", "Host: a")]
    assert await differences(hot, requests) == []


async def test_heads_made_at_random_are_answered_alike(hot: hot_world.Served) -> None:
    random = Random(20)
    etag = (hot_world.header(await in_l1(hot, f"{ROOT}/way"), "etag") or "").strip('"')
    requests = []
    for _ in range(120):
        lines = [line.replace("ETAG", etag) for line in random.sample(LINES, random.choice((0, 1, 2, 2, 3, 5)))]
        if random.random() < 0.95:
            lines.insert(random.randint(0, len(lines)), "Host: example.org")
        method = random.choice(("GET", "GET", "GET", "HEAD", "POST"))
        version = random.choice(("1.1",) * 20 + ("1.0", "2.0"))
        requests.append(request(random.choice(TARGETS), *lines, method=method, version=version))
    assert await differences(hot, requests) == []


async def test_every_declared_field_can_be_asked_for(hot: hot_world.Served) -> None:
    paths = (ODD_PAGE, f"{ROOT}/-/counters/odd?ship+to=new+york&a%2Cb=c,d&{LONG}=100%25")
    async with hot.connection() as client:
        page, count = [orjson.loads(hot_world.body(await client.get(path))) for path in paths]
        grouped = orjson.loads(hot_world.body(await client.get(f"{ROOT}/-/counters/odd?group=a%2Cb,ship%20to")))
    assert [item["_id"] for item in page["items"]] == ["o d,d%"]
    assert count["count"] == 1
    assert {"a,b": "c,d", "ship to": "new york"} in [group["by"] for group in grouped["groups"]]


async def test_a_handler_that_fails_says_that_the_connection_closes(
    hot: hot_world.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And on the shorter way, too, nobody is left without an answer."""

    def fails(*_: object) -> None:
        raise ArithmeticError("a mistake")

    for target in (f"{ROOT}/-/lists/departures?origin=NEW&day=1", f"{ROOT}/-/counters/by_status?origin=NEW"):
        with monkeypatch.context() as patch:
            patch.setattr("neverstale.api.hits.request_lines.asked", fails)
            patch.setattr("neverstale.api.endpoints.derived.counters.asked", fails)
            async with hot.connection() as client:
                answer = await client.get(target)
                assert (hot_world.status(answer), hot_world.header(answer, "connection")) == (500, "close")
                assert orjson.loads(hot_world.body(answer))["type"] == "urn:neverstale:internal"
                assert await client.reader.read() == b""
        async with hot.connection() as client:
            assert hot_world.status(await client.get(target)) == 200
