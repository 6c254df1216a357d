"""JSON in the body of a request, read strictly."""

import asyncio
from typing import Any

import pytest

from neverstale.api.state import STATE
from neverstale.api.web.bodies import ClientGone, json_body, parsed
from neverstale.api.web.problems import Problem
from neverstale.settings import Clients
from tests.support.opened import opened

JSON = (b"content-type", b"application/json")


async def read(*messages: dict[str, Any], headers: Any = (JSON,)) -> Any:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    clients = Clients(body_bytes=20)
    return await json_body({"headers": headers, "state": {STATE: opened(clients=clients)}}, receive)


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_may_come_in_pieces() -> None:
    assert await read(piece(b'{"a":', more=True), piece(b"1", more=True), piece(b"}")) == {"a": 1}


@pytest.mark.parametrize(
    "kind", [b"application/json", b"Application/JSON; charset=utf-8", b'application/json;charset="UTF-8"; x=y']
)
async def test_json_is_json_however_its_type_is_spelled(kind: bytes) -> None:
    assert await read(piece(b"1"), headers=[(b"content-type", kind)]) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"")],
        [(b"content-type", b"application/json-patch+json")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [JSON, JSON],
        [JSON, (b"content-encoding", b"gzip")],
    ],
)
async def test_another_type_is_a_415_that_says_which_one_is_taken(headers: Any) -> None:
    with pytest.raises(Problem) as refused:
        await read(piece(b"1"), headers=headers)
    assert refused.value.status == 415
    assert refused.value.headers["accept-post"] == refused.value.headers["accept-query"] == "application/json"


async def test_a_body_beyond_its_limit_is_a_413() -> None:
    with pytest.raises(Problem) as refused:
        await read(piece(b" " * 15, more=True), piece(b" " * 6))
    assert refused.value.status == 413


async def test_a_body_that_does_not_arrive_is_a_408() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    state = {STATE: opened(clients=Clients(head_seconds=0.01))}
    with pytest.raises(Problem) as refused:
        await json_body({"headers": (JSON,), "state": state}, never)
    assert (refused.value.status, refused.value.headers["connection"]) == (408, "close")


async def test_nobody_is_answered_who_has_gone() -> None:
    with pytest.raises(ClientGone):
        await read(piece(b"1", more=True), {"type": "http.disconnect"})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "is empty"),
        (b"{", "is not JSON at character 1"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b"Infinity", "is not JSON"),
        (b"\xff", "is not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "is not valid UTF-8"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"a": 1, "a": 2}', "has 'a' twice in one object"),
        (b'[{"b": {"a": 1, "a": 1}}]', "has 'a' twice in one object"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 5000, "is not JSON"),
        (b"1 2", "is not JSON"),
        (rb'{"\uD800": 1}', "half of a surrogate pair"),
        (rb'["\udc00\ud800"]', "half of a surrogate pair"),
    ],
)
def test_what_is_no_json_is_a_400_that_names_the_body(body: bytes, sentence: str) -> None:
    with pytest.raises(Problem) as refused:
        parsed(body)
    assert (refused.value.status, refused.value.members["parameter"]) == (400, "body")
    assert sentence in refused.value.members["detail"]


def test_escaped_characters_are_characters() -> None:
    assert parsed(rb'["\u00e9\ud83e\uddca\u0000"]') == ["é\U0001f9ca\0"]
