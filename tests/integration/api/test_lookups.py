"""Look-ups over HTTP, with the whole pipeline on real servers."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from neverstale.client import AsyncClient, reads
from neverstale.derived.contributions import Contribution
from neverstale.derived.facts import Facts
from neverstale.derived.plan import Plan, Said
from neverstale.derived.tagged import Tagged
from tests.support.waiting import eventually
from tests.worlds import hits
from tests.worlds.deriving import RESOURCE
from tests.worlds.serving import Served, flight, heard, in_l1, serving, without_place

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(mongo_uri, kafka_servers, redis_url) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hot(served: Served) -> AsyncIterator[hits.Served]:
    """The same behind uvicorn, where look-ups are answered before ASGI."""
    async with hits.Served.of(served.world) as hot:
        yield hot


async def until_hit(served: Served, tail: str) -> httpx.Response:
    """Ask until the cache answers, whatever it says."""
    held: list[httpx.Response] = []

    async def hit() -> bool:
        held[:] = [await served.get(f"by/tail/{tail}")]
        return "; hit" in held[0].headers["cache-status"]

    await eventually(hit, f"{tail} is answered by the cache")
    return held[0]


async def test_a_look_up_answers_as_the_document_itself_does(served: Served) -> None:
    await served.applied(await served.write(flight("same", tail="N1")))
    found = await until_hit(served, "N1")
    one = await served.world.http.get(f"/v1/{RESOURCE}/same")
    assert (found.status_code, found.content, found.headers["etag"]) == (200, one.content, one.headers["etag"])
    assert float(found.headers["neverstale-bound"]) < 60
    again = await served.get("by/tail/N1", {"if-none-match": found.headers["etag"]})
    assert again.status_code == 304


async def test_an_absence_is_cached_and_an_insert_corrects_it(served: Served) -> None:
    absent = await until_hit(served, "N2")
    assert (absent.status_code, absent.json()["type"]) == (404, "urn:neverstale:unknown-key")
    assert absent.json()["field"] == "tail" and absent.headers["neverstale-version"]
    await served.applied(await served.write(flight("born", tail="N2")))
    found = await served.get("by/tail/N2")
    assert (found.status_code, found.json()["_id"]) == (200, "born")


async def test_what_changes_in_the_document_changes_under_its_value(served: Served) -> None:
    await served.applied(await served.write(flight("shown", tail="N3", gate="a")))
    await until_hit(served, "N3")
    await served.applied(await served.write(flight("shown", tail="N3", gate="b")))
    assert (await served.get("by/tail/N3")).json()["gate"] == "b"


async def test_a_value_that_moves_to_another_document_is_found_there(served: Served) -> None:
    await served.applied(await served.write(flight("old", tail="N4"), flight("new", tail="N5")))
    for tail in ("N4", "N5"):
        await until_hit(served, tail)
    await served.applied(await served.write(flight("old"), flight("new", tail="N4")))
    assert (await served.get("by/tail/N4")).json()["_id"] == "new"
    assert (await served.get("by/tail/N5")).status_code == 404
    await served.documents.delete_one({"_id": "new"})
    await served.applied(await served.write(flight("beside")))
    assert (await served.get("by/tail/N4")).status_code == 404


async def test_a_value_of_two_documents_is_a_409_that_says_what_to_do(served: Served, hot: hits.Served) -> None:
    await served.applied(await served.write(flight("one", tail="N6")))
    await until_hit(served, "N6")
    await served.applied(await served.write(flight("two", tail="N6")))
    for demand in ({}, {"cache-control": "no-cache"}, {"cache-control": "stale-if-error=60"}):
        several = await served.get("by/tail/N6", demand)
        assert (several.status_code, several.json()["type"]) == (409, "urn:neverstale:not-unique")
        assert "neverstale check" in several.json()["detail"]
    async with hot.connection() as client:
        assert hits.status(await client.get(f"/v1/{RESOURCE}/-/by/tail/N6")) == 409
    await served.documents.delete_one({"_id": "one"})
    await served.applied(await served.write(flight("beside")))
    assert (await served.get("by/tail/N6")).json()["_id"] == "two"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("by/seat/7", 200),
        ("by/seat/8", 200),  # a double that is a whole number
        ("by/seat/07", 400),
        ("by/seat/seven", 400),
        ("by/seat/9223372036854775808", 400),
        ("by/crew.badge/a%2Fb", 200),
        ("by/crew.badge/c", 200),
        ("by/crew.badge/absent", 404),
        ("by/tail/null", 404),  # nobody is found by what he lacks
        ("by/tail/%ff", 400),
        ("by/tail/" + "x" * 511, 400),
        ("by/tail/N7?x=1", 400),
        ("by/gate/a", 404),
    ],
)
async def test_values_are_typed_and_spelled_as_keys_are(served: Served, path: str, status: int) -> None:
    some = (
        flight("typed", seat=7, crew={"badge": "a/b"}),
        flight("doubled", seat=8.0, crew=[{"badge": "c"}, {"badge": "d"}]),
    )
    await served.write(*some)
    answer = await served.get(path, {"cache-control": "no-cache"})
    assert answer.status_code == status, answer.text
    if status == 400 and "?" not in path:
        assert answer.json()["parameter"] == "value"


async def test_demands_hold(served: Served) -> None:
    await served.applied(await served.write(flight("asked", tail="N8")))
    nothing = await served.get("by/tail/N8", {"cache-control": "only-if-cached"})
    assert nothing.status_code == 504
    await until_hit(served, "N8")
    held = await served.get("by/tail/N8", {"cache-control": "only-if-cached"})
    assert held.status_code == 200
    now = await served.get("by/tail/N8", {"cache-control": "no-cache"})
    assert now.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"
    version = await served.write(flight("asked", tail="N9"))
    gone = await served.get("by/tail/N8", {"neverstale-min-version": version})
    come = await served.get("by/tail/N9", {"neverstale-min-version": version})
    assert (gone.status_code, come.status_code) == (404, 200)
    assert come.headers["neverstale-version"] >= version
    old = await served.get("by/tail/N9", {"cache-control": "max-age=0"})
    assert old.status_code == 200


async def test_a_look_up_answered_before_asgi_is_what_the_routes_answer(served: Served, hot: hits.Served) -> None:
    await served.applied(await served.write(flight("quick", tail="N 10", gate="g" * 2000)))
    for value in ("N%2010", "nobody%2010"):
        path = f"/v1/{RESOURCE}/-/by/tail/{value}"
        await in_l1(hot, path)
        for headers in ((), ("Accept-Encoding: gzip",), ("If-None-Match: *",)):
            for method in ("GET", "HEAD"):
                async with hot.connection() as client:
                    answered = await client.get(path, *headers, method=method)
                    ordinary = await client.get(path, "Cache-Control: max-stale", *headers, method=method)
                assert b"; hit; detail=l" in answered
                assert without_place(answered) == without_place(ordinary)


async def test_no_look_up_answered_from_memory_misses_a_change_that_was_announced(
    served: Served, hot: hits.Served
) -> None:
    paths = [f"/v1/{RESOURCE}/-/by/tail/M{number}" for number in (0, 1)]
    for turn in range(8):
        await heard(hot, await served.write(flight("moves", tail=f"M{turn % 2}", gate=f"g{turn}")))
        for number, path in enumerate(paths):
            async with hot.connection() as client:
                answered = await client.get(path)
            assert hits.status(answered) == (200 if number == turn % 2 else 404)
            if number == turn % 2:
                assert orjson.loads(hits.body(answered))["gate"] == f"g{turn}"
            await in_l1(hot, path)


async def test_a_value_can_be_watched_whoever_has_it(served: Served, hot: hits.Served) -> None:
    watched = reads.by_field(RESOURCE, "tail", "LIVE")
    async with asyncio.timeout(60), AsyncClient(f"http://127.0.0.1:{hot.port}") as api, api.live(watched) as live:
        assert (await anext(live)).value is None
        for key in ("first-owner", "second-owner"):
            await served.documents.delete_many({"tail": "LIVE"})
            await served.write(flight(key, tail="LIVE"))
            async for state in live:
                if state.value is not None and state.value["_id"] == key:
                    break


async def test_without_a_generation_mongodb_answers(served: Served) -> None:
    await served.applied(await served.write(flight("lost", tail="N11")))
    await until_hit(served, "N11")
    await served.deriving.store.forget()
    found = await served.get("by/tail/N11")
    assert (found.status_code, found.json()["_id"]) == (200, "lost")
    assert found.headers["cache-status"].endswith("detail=mongodb")
    await served.deriving.until_complete()


async def test_openapi_has_typed_routes(served: Served) -> None:
    described = (await served.world.http.get("/openapi.json")).json()
    path = described["paths"][f"/v1/{RESOURCE}/-/by/seat/{{value}}"]["get"]
    assert path["parameters"][0]["schema"] == {"type": "integer", "format": "int64"}
    assert {"200", "404", "409"} <= path["responses"].keys()


# --- forced races

TAILS = [f"R{number}" for number in range(4)]
KEYS = [f"race{number}" for number in range(5)]


@dataclass
class Races:
    """A writer moves values among documents as fast as it can, readers look them up all the while.

    What an answer may say: what was true of its value at some time between the last write that its bound covers and
    the moment when it came.
    """

    served: Served
    hot: hits.Served
    seed: int
    written: list[tuple[float, float, dict[str, str]]] = field(default_factory=lambda: [(0, 0, {})])
    """When a write was begun, when it was acknowledged, and which document had which value then."""
    answers: list[tuple[str, float, float, float, str | None]] = field(default_factory=list)
    """Value, when it was asked for, when it was answered, the bound, and the document."""
    ways: Counter[str] = field(default_factory=Counter)

    async def run(self, writes: int) -> None:
        chance = random.Random(self.seed)
        readers = [asyncio.create_task(self._read(number)) for number in range(4)]
        try:
            for _ in range(writes):
                await self._write(chance)
                await asyncio.sleep(chance.choice([0, 0, 0.02]))
        finally:
            for reader in readers:
                reader.cancel()
            for reader in readers:
                with suppress(asyncio.CancelledError):
                    await reader

    async def _write(self, chance: random.Random) -> None:
        holders = dict(self.written[-1][2])
        tail, key = chance.choice(TAILS), chance.choice(KEYS)
        holder = next((one for one, held in holders.items() if held == tail), None)
        begun = time.monotonic()
        documents = self.served.documents
        if holder is not None and chance.random() < 0.3:
            del holders[holder]
            await documents.delete_one({"_id": holder})
        elif holder in (None, key):
            holders[key] = tail
            await documents.replace_one({"_id": key}, flight(key, tail=tail, gate=str(begun)), upsert=True)
        else:
            holders = {one: held for one, held in holders.items() if one != holder} | {key: tail}
            async with self.served.deriving.mongo.start_session() as session, await session.start_transaction():
                await documents.update_one({"_id": holder}, {"$unset": {"tail": 1}}, session=session)
                await documents.update_one({"_id": key}, {"$set": {"tail": tail}}, upsert=True, session=session)
        self.written.append((begun, time.monotonic(), holders))

    async def _read(self, number: int) -> None:
        chance = random.Random(number)
        async with self.hot.connection() as client:
            while True:
                tail, asked = chance.choice(TAILS), time.monotonic()
                answer = await client.get(f"/v1/{RESOURCE}/-/by/tail/{tail}")
                bound, status = hits.header(answer, "neverstale-bound"), hits.status(answer)
                assert status in (200, 404) and bound is not None, answer
                key = orjson.loads(hits.body(answer))["_id"] if status == 200 else None
                if bound != "unknown":
                    self.answers.append((tail, asked, time.monotonic(), float(bound), key))
                self.ways[(hits.header(answer, "cache-status") or "").partition("; ")[2]] += 1
                await asyncio.sleep(0)

    def false(self) -> list[Any]:
        """Answers that were not true at any time that they speak of."""
        return [answer for answer in self.answers if answer[4] not in self._possible(*answer[:4])]

    def _possible(self, tail: str, asked: float, answered: float, bound: float) -> Sequence[str | None]:
        first = max(
            number for number, (_, known, _) in enumerate(self.written) if known <= asked - bound or not number
        )
        later = [holders for begun, _, holders in self.written[first + 1 :] if begun <= answered]
        return [
            next((key for key, held in holders.items() if held == tail), None)
            for holders in (self.written[first][2], *later)
        ]


async def settled(served: Served, hot: hits.Served) -> None:
    await served.documents.delete_many({"_id": {"$in": KEYS}})
    await heard(hot, await served.write(flight("beside")))


async def test_in_forced_races_no_look_up_says_what_was_not_true(served: Served, hot: hits.Served) -> None:
    await settled(served, hot)
    races = Races(served, hot, seed=17)
    await races.run(writes=150)
    assert races.false() == []
    print(f"\n{len(races.written)} moves, {len(races.answers)} look-ups under way: {dict(races.ways)}")
    assert races.ways["hit; detail=l1"] and races.ways["hit; detail=l2"] and races.ways["fwd=stale; detail=mongodb"]
    await heard(hot, await served.write(flight("beside")))
    for tail in TAILS:
        found = await served.get(f"by/tail/{tail}")
        holder = next((key for key, held in races.written[-1][2].items() if held == tail), None)
        assert (found.json()["_id"] if found.status_code == 200 else None) == holder


class NamedValuesStay(Plan):
    """Consumers correct the value that a document had, and not the one that it has now."""

    def _named(
        self, one: Tagged, place: int, said: Sequence[Said], stored: Contribution | None, before: Facts | None
    ) -> tuple[str, ...] | None:
        return ()


async def test_races_find_out_if_the_value_that_a_document_comes_to_is_not_corrected(
    served: Served, hot: hits.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it comes last, since what it leaves in the cache is wrong."""
    await settled(served, hot)
    races = Races(served, hot, seed=18)
    with monkeypatch.context() as patch:
        patch.setattr("neverstale.consumers.derived.derive.Plan", NamedValuesStay)
        for _ in range(20):
            await races.run(writes=20)
            if races.false():
                break
    assert races.false(), "the control must fail"
