"""An answer that misses a write says so in its bound; what comes from MongoDB proves its age, also without marks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from neverstale.catalog import Catalog
from neverstale.ops.truth.oracle import Read, Writes, judge
from tests.faults.rig.sabotage import without
from tests.worlds.api import World, catalog_of, settings_of

WRITES = 5
YOUNG_SECONDS = 0.5
ROUNDS = 6


@pytest.fixture
async def world(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Perhaps without a rule."""
    with without(getattr(request, "param", None)):
        async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog_of(database)) as world:
            yield world


async def broken_bounds(world: World) -> int:
    """How many of some answers missed a write that was acknowledged longer ago than they said.

    The writes are never applied, so the cache knows nothing of them.
    """
    await world.write("things", {"_id": "a", "n": 0})
    await world.http.get("/v1/things/a")
    await world.until_filled("things", "a")
    await world.mark()
    broken = 0
    for number in range(1, WRITES + 1):
        await world.write("things", {"_id": "a", "n": number})
        acknowledged = time.monotonic()
        await asyncio.sleep(0.01)  # the write grows old
        asked = time.monotonic()
        answer = await world.http.get("/v1/things/a")
        assert "; hit;" in answer.headers["cache-status"]
        assert answer.json()["n"] == 0
        broken += acknowledged < asked - float(answer.headers["neverstale-bound"])
    return broken


async def test_what_misses_a_write_says_that_it_may(world: World) -> None:
    assert await broken_bounds(world) == 0


@pytest.mark.parametrize("world", ["the bound is ignored"], indirect=True)
async def test_without_the_bound_every_such_answer_breaks_its_word(world: World) -> None:
    assert await broken_bounds(world) == WRITES


# --- without marks


DERIVED: dict[str, Any] = {
    "key_type": "string",
    "fields": {"kind": "string", "n": "int"},
    "lists": {"of_group": {"by": ["kind"], "cached_pages": 1, "page_size": 1}},
    "counters": {"sums": {"by": ["kind"], "sums": {"n": {"field": "n"}}}},
    "rankings": {"top": {"by": ["kind"], "score": "n"}},
}
FIRST = {"_id": "0", "kind": "g", "n": 0}
"""Never changes, and comes first in every page."""

Answered = Callable[[Any], int]


def single(answer: Any) -> int:
    return int(answer["n"])


def several(answer: Any) -> int:
    return int(answer["items"][1]["value"]["n"])


def on_page(answer: Any) -> int:
    return int(answer["items"][0]["n"])


def summed(answer: Any) -> int:
    return int(answer["sums"]["n"])


def leading(answer: Any) -> int:
    return int(answer["items"][0]["score"])


def ranked(answer: Any) -> int:
    return int(answer["score"])


ALL_WAYS: dict[str, Answered] = {
    "/v1/things/1": single,
    "/v1/things?keys=0,1": several,
    "/v1/things/-/lists/of_group?kind=g&cursor={cursor}": on_page,
    "/v1/things/-/counters/sums?kind=g": summed,
    "/v1/things/-/rankings/top?kind=g": leading,
    "/v1/things/-/rankings/top/1?kind=g": ranked,
}
DEMANDS: list[dict[str, str]] = [
    {},
    {"cache-control": "no-cache"},
    {"cache-control": "max-age=0"},
    {"cache-control": "max-age=1"},
]


@pytest.fixture
async def unmarked(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Nobody tells marks. Perhaps without a rule."""
    catalog = Catalog.model_validate({"database": database, "resources": {"things": DERIVED}})
    with without(getattr(request, "param", None)):
        async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog) as world:
            await world.write("things", FIRST, {"_id": "1", "kind": "g", "n": 1})
            yield world


def told(answer: httpx.Response) -> float:
    """The bound that an answer states, in seconds."""
    bound = answer.headers["neverstale-bound"]
    return float("nan") if bound == "unknown" else float(bound)


async def asked_all_ways(world: World) -> tuple[int, int, Any]:
    """How many answers of MongoDB did not prove to be young, of how many; and what an oracle says of all.

    They are asked for all at once, again and again, while the document is written. What a request itself took longer
    than it should is the machine's.
    """
    writes, reads, old, done = Writes(), [], 0, asyncio.Event()
    page = await world.http.get("/v1/things/-/lists/of_group?kind=g")
    ways = {path.format(cursor=page.json()["next"]): answered for path, answered in ALL_WAYS.items()}

    async def write() -> None:
        while not done.is_set():
            number = writes.begin(1, time.monotonic())
            version = await world.write("things", {"_id": "1", "kind": "g", "n": number})
            writes.acknowledge(1, number, time.monotonic(), version)

    async def ask(path: str, answered: Answered, demand: dict[str, str]) -> None:
        nonlocal old
        start = time.monotonic()
        answer = await world.http.get(path, headers=demand)
        end = time.monotonic()
        assert answer.status_code == 200, (path, answer.text)
        bound, version = told(answer), int(answer.headers["neverstale-version"], 16)
        reads.append(Read(1, 1, 1, answered(answer.json()), start, end, bound, version))
        status = answer.headers["cache-status"]
        if "detail=mongodb" in status and "collapsed" not in status:
            old += not bound <= YOUNG_SECONDS + end - start

    writing = asyncio.create_task(write())
    try:
        for _ in range(ROUNDS):
            await asyncio.gather(*(ask(path, how, demand) for path, how in ways.items() for demand in DEMANDS))
            await asyncio.sleep(YOUNG_SECONDS / 2)  # what was proved grows old
    finally:
        done.set()
        await writing
    return old, len(reads), judge(writes, reads)


async def test_without_a_mark_whatever_comes_from_mongodb_proves_to_be_young(unmarked: World) -> None:
    old, count, verdict = await asked_all_ways(unmarked)
    print(f"not young {old} of {count}, broke their bound {verdict.violated_bounds.wrong} of {count}")
    assert (old, count) == (0, ROUNDS * len(ALL_WAYS) * len(DEMANDS))
    assert verdict.violated_bounds.wrong == 0
    assert verdict.unknown_bounds == 0


@pytest.mark.parametrize("unmarked", ["reads of MongoDB prove their age"], indirect=True)
async def test_without_the_proof_no_answer_has_a_bound(unmarked: World) -> None:
    old, count, verdict = await asked_all_ways(unmarked)
    assert old > count / 2
    assert verdict.unknown_bounds == count


@pytest.mark.parametrize("unmarked", ["the bound is ignored"], indirect=True)
async def test_without_the_bound_the_oracle_finds_answers_that_break_their_word(unmarked: World) -> None:
    *_, verdict = await asked_all_ways(unmarked)
    assert verdict.violated_bounds.wrong > 0


async def test_what_a_proved_read_has_filled_is_known_to_be_as_young_as_its_proof(world: World) -> None:
    old = await world.loader.now()
    await world.write("things", {"_id": "a", "n": 0})
    await world.mark(old, await world.primary_ms() - 60_000)
    started = time.monotonic()
    await world.http.get("/v1/things/a")
    await world.until_filled("things", "a")
    answer = await world.http.get("/v1/things/a")
    assert "; hit;" in answer.headers["cache-status"]
    assert told(answer) <= YOUNG_SECONDS + time.monotonic() - started


async def test_what_is_proved_of_later_reads_says_nothing_of_an_entry_from_before(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 0})
    await world.http.get("/v1/things/a")
    entry = await world.until_filled("things", "a")
    await world.mark(entry.version, await world.primary_ms() - 60_000)
    await world.write("things", {"_id": "a", "n": 1})
    written = time.monotonic()
    direct = await world.http.get("/v1/things/a", headers={"cache-control": "no-cache"})
    assert direct.json()["n"] == 1
    asked = time.monotonic()
    kept = await world.http.get("/v1/things/a")
    assert "; hit;" in kept.headers["cache-status"]
    assert kept.json()["n"] == 0
    assert told(kept) > asked - written
