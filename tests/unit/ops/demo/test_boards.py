"""The last look at the boards, against a service that answers as it is told."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from neverstale.ops.demo import boards
from tests.unit.ops.demo.test_sweep import Service, service

SHOWN = {"_id", "carrier", "origin", "day", "status", "sched_dep", "dep_delay", "cancelled"}


def flight(key: str, **fields: Any) -> dict[str, Any]:
    return {
        "_id": key,
        "carrier": "UA",
        "origin": "JFK",
        "day": "1",
        "status": "departed",
        "sched_dep": "10:00",
        "dep_delay": 5,
        "cancelled": False,
    } | fields


STORED = {
    key: flight(key, **fields)
    for key, fields in (
        ("a", {}),
        ("b", {"sched_dep": "09:00", "secret": 1}),
        ("c", {"cancelled": True, "status": "cancelled", "dep_delay": None}),
    )
}


def answering(**wrong: Any) -> Service:
    """What is right, but for what is wrong."""
    page = [{name: value for name, value in STORED["b"].items() if name in SHOWN}]
    right: dict[str, Any] = {
        "page": page,
        "departed": 2,
        "minutes": 10,
        "leaders": [("a", 5), ("b", 5)],
    } | wrong

    def answer(path: str) -> tuple[int, Any]:
        parts = urlsplit(path)
        what, query = parts.path.removeprefix(boards.BASE), parse_qs(parts.query)
        if what == "/lists/departures":
            if "cursor" in query:
                return 200, {"items": [STORED["a"]], "next": None}
            return 200, {"items": right["page"], "next": "further"}
        if what == "/counters/by_status":
            counts = {"departed": right["departed"], "cancelled": 1}
            rows = [{"by": {"origin": "JFK", "status": name}, "count": count} for name, count in counts.items()]
            return 200, {"groups": rows}
        if what == "/counters/by_carrier":
            sums = {"delay_minutes": right["minutes"]}
            return 200, {"groups": [{"by": {"carrier": "UA"}, "count": 3, "sums": sums}]}
        items = [{"key": key, "score": score, "rank": rank} for rank, (key, score) in enumerate(right["leaders"], 1)]
        return 200, {"items": items}

    return answer


async def wrong(**told: Any) -> tuple[int, int]:
    async with service(answering(**told)) as url:
        found = await boards.check(url, STORED, SHOWN)
        return found.wrong.wrong, found.wrong.checked


async def test_boards_that_say_what_is_stored_are_right() -> None:
    assert await wrong() == (0, 7)


async def test_a_page_that_shows_an_old_state_is_noticed() -> None:
    assert (await wrong(page=[STORED["a"]]))[0] == 1


async def test_a_page_that_misses_a_document_is_noticed() -> None:
    assert (await wrong(page=[]))[0] == 2


async def test_a_wrong_count_is_noticed() -> None:
    assert (await wrong(departed=3))[0] == 1


async def test_a_wrong_sum_is_noticed() -> None:
    assert (await wrong(minutes=11))[0] == 1


async def test_a_wrong_order_of_the_most_delayed_is_noticed() -> None:
    assert (await wrong(leaders=[("b", 5), ("a", 5)]))[0] == 1
