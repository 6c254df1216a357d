"""A session of a caller: what it demands, and what it learns."""

from types import SimpleNamespace

import httpx
import pytest
from bson.timestamp import Timestamp

from neverstale.client.session import Session
from neverstale.versions import from_timestamp, to_hex

LOW, HIGH = to_hex(5 << 32), to_hex(7 << 32)


def answering(*versions: str) -> httpx.MockTransport:
    left = list(versions)

    def answer(request: httpx.Request) -> httpx.Response:
        said = request.headers.get("Neverstale-Min-Version", "")
        return httpx.Response(200, headers={"neverstale-version": left.pop(0)}, text=said)

    return httpx.MockTransport(answer)


def test_demands_nothing_before_the_first_write_or_answer() -> None:
    assert Session().headers == {}


def test_demands_the_highest_version_that_it_saw() -> None:
    with httpx.Client(transport=answering(LOW, HIGH, LOW, LOW), event_hooks=Session().hooks()) as http:
        assert [http.get("http://api/").text for _ in range(4)] == ["", LOW, HIGH, HIGH]


async def test_does_so_in_an_asynchronous_client() -> None:
    transport = answering(HIGH, LOW)
    async with httpx.AsyncClient(transport=transport, event_hooks=Session().async_hooks()) as http:
        assert [(await http.get("http://api/")).text for _ in range(2)] == ["", HIGH]


def test_demands_its_own_write() -> None:
    reads, timestamp = Session(), Timestamp(9, 2)
    reads.wrote(SimpleNamespace(operation_time=timestamp))
    assert reads.headers == {"Neverstale-Min-Version": to_hex(from_timestamp(timestamp))}


def test_a_session_that_wrote_nothing_demands_nothing_more() -> None:
    reads = Session(5)
    reads.wrote(SimpleNamespace(operation_time=None))
    assert reads.version == 5


def test_an_answer_without_a_version_teaches_nothing() -> None:
    reads = Session(5)
    reads.saw({})
    assert reads.version == 5


def test_a_version_that_is_none_is_said() -> None:
    with pytest.raises(ValueError, match="16 lower-case hex digits"):
        Session().saw({"Neverstale-Version": "soon"})
