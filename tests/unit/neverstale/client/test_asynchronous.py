"""The client's side of the contract: what it asks for, and what it makes of every answer there may be."""

import random
from typing import Any

import httpx
import orjson
import pytest

from neverstale.client import (
    Ambiguous,
    AsyncClient,
    Demand,
    Forbidden,
    NothingThere,
    NotInCache,
    ServerFault,
    Session,
    TryLater,
    Unauthorized,
    Unintelligible,
    Unreachable,
    WrongRequest,
)
from neverstale.client.failures import MEDIA_TYPE
from neverstale.versions import to_hex

LOW, HIGH = 5 << 32, 7 << 32
FACTS = {
    "neverstale-version": to_hex(LOW),
    "neverstale-bound": "0.412",
    "age": "1",
    "etag": '"0a2d6ec49e1bb7b2"',
    "cache-status": "edge; fwd=stale, neverstale; hit; detail=l2",
}
Answer = httpx.Response | Exception


class Answers(httpx.MockTransport):
    """Answers in turn, the last one again and again; keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def found(body: Any, **facts: str) -> httpx.Response:
    headers = FACTS | {name.replace("_", "-"): value for name, value in facts.items()}
    return httpx.Response(200, headers=headers, content=orjson.dumps(body))


def problem(status: int, kind: str = "x", **headers: str) -> httpx.Response:
    members = {"type": f"urn:neverstale:{kind}", "status": status, "detail": "why"}
    told = {"content-type": f"{MEDIA_TYPE}; charset=utf-8", **{n.replace("_", "-"): v for n, v in headers.items()}}
    return httpx.Response(status, headers=told, content=orjson.dumps(members))


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("neverstale.client.asynchronous.asyncio.sleep", sleep)
    return pauses


def client(transport: httpx.MockTransport, **options: Any) -> AsyncClient:
    return AsyncClient("http://api", transport=transport, pause=random.Random(1), **options)


async def test_an_answer_says_how_fresh_it_is() -> None:
    async with client(Answers(found({"_id": "a"}))) as api:
        fresh = await api.get("things", "a")
    assert fresh.value == {"_id": "a"}
    assert (fresh.version, fresh.bound, fresh.age) == (LOW, 0.412, 1)
    assert (fresh.how, fresh.detail, fresh.etag) == ("hit", "l2", '"0a2d6ec49e1bb7b2"')


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"cache_status": "neverstale; fwd=miss; collapsed; detail=mongodb"}, ("miss", "mongodb")),
        ({"cache_status": "neverstale; fwd=sideways"}, ("unknown", "")),
        ({"cache_status": ""}, ("unknown", "")),
        ({"cache_status": "other; hit"}, ("unknown", "")),
    ],
)
async def test_how_it_was_answered_is_read_from_our_part_of_the_header(
    facts: dict[str, str], expected: tuple[str, str]
) -> None:
    async with client(Answers(found({}, **facts))) as api:
        fresh = await api.get("things", "a")
    assert (fresh.how, fresh.detail) == expected


@pytest.mark.parametrize("odd", ["", "unknown", "soon", "-1", "1e9", "nan", "٣"])
async def test_a_header_that_says_nothing_is_unknown_and_fails_nothing(odd: str) -> None:
    headers = [(name, odd.encode()) for name in (b"neverstale-version", b"neverstale-bound", b"age")]
    answer = httpx.Response(200, headers=headers, content=b"{}")
    async with client(Answers(answer)) as api:
        fresh = await api.get("things", "a")
    assert (fresh.version, fresh.bound, fresh.age) == (None, None, None)
    assert api.session.version == 0


async def test_an_absence_is_an_answer() -> None:
    absent = problem(404, "unknown-key", **{name.replace("-", "_"): value for name, value in FACTS.items()})
    async with client(Answers(absent)) as api:
        for fresh in (await api.get("t", "a"), await api.lookup("t", "f", "v"), await api.rank("t", "r", "a")):
            assert fresh.value is None
            assert (fresh.version, fresh.bound) == (LOW, 0.412)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (problem(400, "bad-parameter"), WrongRequest),
        (problem(412), WrongRequest),
        (problem(401, "unauthorized"), Unauthorized),
        (problem(403, "switched-off"), Forbidden),
        (problem(404, "unknown-resource"), NothingThere),
        (problem(409, "not-unique"), Ambiguous),
        (problem(429), TryLater),
        (problem(503, "unavailable"), TryLater),
        (problem(504, "not-cached"), NotInCache),
        (problem(500), ServerFault),
        (httpx.Response(502, text="<html>"), TryLater),
        (httpx.Response(504, text="<html>"), TryLater),
        (httpx.Response(404, text="<html>"), Unintelligible),
        (httpx.Response(301, headers={"location": "/"}), Unintelligible),
        (httpx.Response(404, headers={"content-type": MEDIA_TYPE}, text="{"), Unintelligible),
        (httpx.Response(404, headers={"content-type": MEDIA_TYPE}, text="[]"), Unintelligible),
        (httpx.Response(200, text="<html>"), Unintelligible),
        (httpx.Response(200, text="[]"), Unintelligible),
        (httpx.Response(204), Unintelligible),
        (httpx.ConnectError("no"), Unreachable),
        (httpx.ReadTimeout("no"), Unreachable),
        (httpx.RemoteProtocolError("half"), Unreachable),
    ],
    ids=str,
)
async def test_each_failure_has_a_class_that_says_what_to_do(
    answer: Answer, failure: type[Exception], paused: list[float]
) -> None:
    async with client(Answers(answer)) as api:
        with pytest.raises(failure) as caught:
            await api.get("things", "a")
    assert type(caught.value) is failure
    assert len(paused) == (2 if failure in (TryLater, Unreachable) else 0)


async def test_what_a_problem_says_can_be_read() -> None:
    async with client(Answers(problem(400, "bad-parameter"))) as api:
        with pytest.raises(WrongRequest) as caught:
            await api.page("things", "all")
    assert (caught.value.status, caught.value.type) == (400, "urn:neverstale:bad-parameter")
    assert (caught.value.detail, caught.value.members["status"]) == ("why", 400)


async def test_what_may_succeed_later_is_asked_for_again_and_when_the_api_says(paused: list[float]) -> None:
    answers = Answers(problem(503, retry_after="3"), httpx.ConnectError("no"), found({"_id": "a"}))
    async with client(answers) as api:
        assert (await api.get("things", "a")).value == {"_id": "a"}
    assert paused[0] == 3 and 0.1 <= paused[1] <= 0.2


async def test_a_long_wait_is_not_waited_for_longer_than_ten_seconds(paused: list[float]) -> None:
    async with client(Answers(problem(503, retry_after="3600"), found({}))) as api:
        await api.get("things", "a")
    assert paused == [10]


async def test_time_does_not_go_backwards() -> None:
    answers = Answers(found({}, neverstale_version=to_hex(HIGH)), found({}), found({}))
    async with client(answers) as api:
        for _ in range(3):
            await api.get("things", "a")
    said = [request.headers.get("neverstale-min-version") for request in answers.asked]
    assert said == [None, to_hex(HIGH), to_hex(HIGH)]


async def test_a_reader_may_do_without() -> None:
    answers = Answers(found({}))
    session = Session(LOW)
    async with client(answers, session=session, monotonic=False) as api:
        for _ in range(2):
            await api.get("things", "a")
    assert [request.headers["neverstale-min-version"] for request in answers.asked] == [to_hex(LOW)] * 2


async def test_demands_are_headers() -> None:
    answers = Answers(found({}))
    async with client(answers, session=Session(LOW)) as api:
        demand = Demand(max_age=3, no_cache=True, only_if_cached=True, stale_if_error=9, min_version=HIGH)
        await api.get("things", "a", demand)
    headers = answers.asked[0].headers
    assert headers["cache-control"] == "max-age=3, no-cache, only-if-cached, stale-if-error=9"
    assert headers["neverstale-min-version"] == to_hex(HIGH)


async def test_many_keys_are_one_answer_with_the_widest_bound() -> None:
    keys = [f"k{number}" for number in range(201)]
    items = [{"key": key, "value": {"_id": key}} for key in keys]
    answers = Answers(
        found({"items": items[:200]}),
        found({"items": items[200:]}, neverstale_bound="7.5", neverstale_version=to_hex(HIGH), age="8"),
    )
    async with client(answers) as api:
        fresh = await api.get_many("things", [*keys, "k0"])
    assert list(fresh.value) == keys
    assert (fresh.bound, fresh.age, fresh.version, fresh.etag) == (7.5, 8, HIGH, None)


async def test_pages_follow_each_other() -> None:
    answers = Answers(found({"items": [{"_id": 1}], "next": "c/1"}), found({"items": [], "next": None}))
    async with client(answers) as api:
        pages = [page.value.items async for page in api.pages("things", "all", {"o": "J"})]
    assert pages == [[{"_id": 1}], []]
    assert [request.url.raw_path for request in answers.asked] == [
        b"/v1/things/-/lists/all?o=J",
        b"/v1/things/-/lists/all?o=J&cursor=c%2F1",
    ]


async def test_a_key_is_shown_and_a_token_is_asked_for_before_each_request() -> None:
    tokens = iter(("first", "second"))

    async def token() -> str:
        return next(tokens)

    for bearer, shown in ("nsk_a", ["nsk_a", "nsk_a"]), (token, ["first", "second"]):
        answers = Answers(found({}))
        async with client(answers, bearer=bearer) as api:
            await api.get("things", "a")
            await api.get("things", "a")
        assert [asked.headers["authorization"] for asked in answers.asked] == [f"Bearer {one}" for one in shown]


async def test_what_is_raised_instead_of_a_token_is_raised() -> None:
    async def token() -> str:
        raise LookupError("no identity provider")

    answers = Answers(found({}))
    async with client(answers, bearer=token) as api:
        with pytest.raises(LookupError):
            await api.get("things", "a")
    assert answers.asked == []


def test_a_session_needs_no_httpx() -> None:
    import subprocess
    import sys

    code = "import sys; sys.modules['httpx'] = None; from neverstale.client import Session; print(Session(5).headers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'Neverstale-Min-Version': '0000000000000005'}"
