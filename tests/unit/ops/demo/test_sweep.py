"""The last look at everything: converge and sweep, against a service that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from neverstale.ops.demo import sweep as sweeping
from neverstale.ops.demo.places import Places
from neverstale.ops.demo.sweep import NotConverged, converge, sweep
from tests.support.project import ROOT

CATALOG = ROOT / "catalog.toml"
KNOWN = Places(("flights", "airlines", "flights"), ("a", "UA", "ghost"), 1, 2)
FLIGHT = {
    "_id": "a",
    "rev": 2,
    "sched_dep": datetime(2013, 2, 4, 10, 0, 0, 5000, UTC),
    "secret": "not in the catalog",
}
STORED: dict[str, dict[str, Any]] = {
    "flights": {"a": FLIGHT},
    "airlines": {"UA": {"_id": "UA", "name": "United"}},
    "airports": {},
}
FLIGHT_JSON = {"_id": "a", "rev": 2, "sched_dep": "2013-02-04T10:00:00.005Z"}
AIRLINE_JSON = {"_id": "UA", "name": "United"}

Service = Callable[[str], tuple[int, Any]]


@asynccontextmanager
async def service(answer: Service) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                status, body = answer(request.split(b" ")[1].decode())
                data = orjson.dumps(body)
                head = f"HTTP/1.1 {status} X\r\nCache-Status: neverstale; hit\r\nContent-Length: {len(data)}\r\n\r\n"
                writer.write(head.encode() + data)
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # Python 3.11 takes a cancelled handler for a failure of its own
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def answering(documents: Mapping[str, Any]) -> Service:
    return lambda path: (200, documents[path]) if path in documents else (404, {})


async def test_answers_that_equal_what_is_stored_are_right() -> None:
    right = {"/v1/flights/a": FLIGHT_JSON, "/v1/airlines/UA": AIRLINE_JSON}
    async with service(answering(right)) as url:
        found = await sweep(url, KNOWN, STORED, CATALOG)
    assert (found.stale.wrong, found.stale.checked, found.hits) == (0, 3, 3)


@pytest.mark.parametrize(
    "flight", [FLIGHT_JSON | {"rev": 1}, FLIGHT_JSON | {"extra": 1}, {"_id": "a", "rev": 2}, AIRLINE_JSON]
)
async def test_any_difference_is_stale(flight: dict[str, Any]) -> None:
    wrong = {"/v1/flights/a": flight, "/v1/airlines/UA": AIRLINE_JSON}
    async with service(answering(wrong)) as url:
        assert (await sweep(url, KNOWN, STORED, CATALOG)).stale.wrong == 1


async def test_a_flight_that_never_was_must_not_appear() -> None:
    wrong = {"/v1/flights/a": FLIGHT_JSON, "/v1/airlines/UA": AIRLINE_JSON, "/v1/flights/ghost": FLIGHT_JSON}
    async with service(answering(wrong)) as url:
        assert (await sweep(url, KNOWN, STORED, CATALOG)).stale.wrong == 1


async def test_a_service_that_cannot_answer_is_asked_again_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "PATIENCE_SECONDS", 0.1)
    async with service(lambda _: (503, {"title": "away"})) as url:
        with pytest.raises(NotConverged, match="was not answered: status 503"):
            await sweep(url, KNOWN, STORED, CATALOG)


def freshness(*watermarks: str | None) -> Service:
    """One watermark after the other; the last one stays."""
    left = list(watermarks)

    def answer(_: str) -> tuple[int, Any]:
        watermark = left.pop(0) if len(left) > 1 else left[0]
        state = {"watermark": watermark, "bound": 0.1, "why": None if watermark else "nothing is known"}
        return 200, {"resources": {"flights": state}}

    return answer


async def test_convergence_is_when_the_watermark_has_passed_the_last_write() -> None:
    async with service(freshness(None, "0000000000000009", "000000000000000a")) as url:
        assert await converge(url, 10) >= 2 * sweeping.POLL_SECONDS


async def test_a_watermark_that_stays_behind_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "CONVERGE_SECONDS", 0.1)
    async with service(freshness("0000000000000009")) as url:
        with pytest.raises(NotConverged, match=r"still behind the last write: flights .*0000000000000009"):
            await converge(url, 10)
