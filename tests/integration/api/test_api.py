"""The interface over HTTP, row by row, on real MongoDB and Redis."""

import re
from typing import Any

import httpx
import pytest

from neverstale.versions import to_hex
from tests.faults.rig.sabotage import without
from tests.support.waiting import eventually
from tests.worlds.api import World, loads


async def hit(world: World, path: str) -> httpx.Response:
    """The answer once it comes from the cache."""
    answers: list[httpx.Response] = []

    async def cached() -> bool:
        answers.append(await world.http.get(path))
        return answers[-1].headers["cache-status"] == "neverstale; hit; detail=l2"

    await eventually(cached, f"{path} is a hit")
    return answers[-1]


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == response.status_code
    return found


async def test_a_document_is_answered_as_json_first_from_mongodb_then_from_redis(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    first = await world.http.get("/v1/things/a")
    assert (first.status_code, first.json()) == (200, {"_id": "a", "n": 1})
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-status"] == "neverstale; fwd=miss; detail=mongodb"
    second = await hit(world, "/v1/things/a")
    assert second.content == first.content
    assert second.headers["etag"] == first.headers["etag"]
    assert second.headers["neverstale-version"] == first.headers["neverstale-version"]


async def test_an_absent_document_is_a_404_with_version_and_bound_and_is_cached(world: World) -> None:
    await world.mark()
    first = await world.http.get("/v1/things/nobody")
    assert problem(first)["type"] == "urn:neverstale:unknown-key"
    await hit(world, "/v1/things/nobody")
    before = loads("things")
    second = await hit(world, "/v1/things/nobody")
    assert second.status_code == 404
    assert re.fullmatch("[0-9a-f]{16}", second.headers["neverstale-version"])
    assert float(second.headers["neverstale-bound"]) >= 0
    assert loads("things") == before


async def test_several_keys_are_answered_in_order_with_null_for_absent_ones(world: World) -> None:
    await world.write("numbers", {"_id": 2, "name": "two"}, {"_id": 1, "name": "one"})
    response = await world.http.get("/v1/numbers?keys=1,3,2,1")
    one, two = {"_id": 1, "name": "one"}, {"_id": 2, "name": "two"}
    assert response.json() == {
        "items": [
            {"key": 1, "value": one},
            {"key": 3, "value": None},
            {"key": 2, "value": two},
            {"key": 1, "value": one},
        ]
    }


async def test_several_keys_cost_one_read_of_mongodb(world: World) -> None:
    await world.write("numbers", *({"_id": number} for number in range(200)))
    before = loads("numbers")
    response = await world.http.get("/v1/numbers", params={"keys": list(range(200))})
    assert [item["key"] for item in response.json()["items"]] == list(range(200))
    assert loads("numbers") == before + 1


async def test_an_answer_for_several_keys_has_the_highest_version_and_the_widest_bound(world: World) -> None:
    await world.write("things", {"_id": "a"})
    old = (await hit(world, "/v1/things/a")).headers["neverstale-version"]
    await world.write("things", {"_id": "b"})
    response = await world.http.get("/v1/things?keys=a,b")
    assert response.headers["neverstale-version"] > old
    assert float(response.headers["neverstale-bound"]) >= 0
    assert response.headers["cache-status"] == "neverstale; fwd=miss; detail=mongodb"
    mark = await world.mark()
    both = await hit(world, "/v1/things?keys=a,b")
    assert both.headers["neverstale-version"] <= to_hex(mark)
    assert float(both.headers["neverstale-bound"]) >= 0


async def test_only_declared_fields_are_served(world: World) -> None:
    await world.write("numbers", {"_id": 7, "name": "seven", "size": 3, "secret": "x"})
    assert (await world.http.get("/v1/numbers/7")).json() == {"_id": 7, "name": "seven", "size": 3}


async def test_age_is_the_bound_in_whole_seconds_rounded_up(world: World) -> None:
    await world.write("things", {"_id": "a"})
    with without("reads of MongoDB prove their age"):
        await world.mark(wall_ms=await world.primary_ms() - 2500)
        response = await hit(world, "/v1/things/a")
    bound = float(response.headers["neverstale-bound"])
    assert 2.5 <= bound < 10
    assert int(response.headers["age"]) == -(-bound // 1)
    assert re.fullmatch(r"\d+\.\d{3}", response.headers["neverstale-bound"])


async def test_without_a_mark_and_a_proof_the_bound_is_unknown_and_there_is_no_age(world: World) -> None:
    await world.write("things", {"_id": "a"})
    with without("reads of MongoDB prove their age"):
        response = await world.http.get("/v1/things/a")
    assert response.headers["neverstale-bound"] == "unknown"
    assert "age" not in response.headers


async def test_others_may_store_an_answer_but_must_ask_again(world: World) -> None:
    await world.write("things", {"_id": "a"})
    assert (await world.http.get("/v1/things/a")).headers["cache-control"] == "no-cache"
    assert (await world.http.get("/v1/nothing/a")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
async def test_a_known_etag_is_answered_with_304_and_the_same_facts(world: World, tag: str) -> None:
    await world.write("things", {"_id": "a"})
    await world.mark()
    etag = (await hit(world, "/v1/things/a")).headers["etag"]
    response = await world.http.get("/v1/things/a", headers={"if-none-match": tag.format(etag.strip('"'))})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag
    assert {"neverstale-version", "neverstale-bound", "age", "cache-status"} <= set(response.headers)
    assert "content-length" not in response.headers


async def test_a_changed_document_has_another_etag(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    etag = (await hit(world, "/v1/things/a")).headers["etag"]
    await world.apply("things", ["a"], await world.write("things", {"_id": "a", "n": 2}))
    response = await world.http.get("/v1/things/a", headers={"if-none-match": etag})
    assert (response.status_code, response.json()["n"]) == (200, 2)
    assert response.headers["etag"] != etag


async def test_an_etag_survives_a_refill(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    etag = (await hit(world, "/v1/things/a")).headers["etag"]
    await world.cache.delete([world.entry_key("things", "a")])
    assert (await world.http.get("/v1/things/a")).headers["etag"] == etag


async def test_the_etag_of_several_documents_is_honoured_too(world: World) -> None:
    await world.write("things", {"_id": "a"})
    etag = (await world.http.get("/v1/things?keys=a,b")).headers["etag"]
    assert (await world.http.get("/v1/things?keys=a,b", headers={"if-none-match": etag})).status_code == 304


async def test_an_absence_has_no_etag_and_is_never_304(world: World) -> None:
    response = await world.http.get("/v1/things/nobody", headers={"if-none-match": "*"})
    assert response.status_code == 404
    assert "etag" not in response.headers


async def test_head_answers_the_headers_of_get(world: World) -> None:
    await world.write("things", {"_id": "a"})
    get, head = await hit(world, "/v1/things/a"), await world.http.head("/v1/things/a")
    volatile = {"neverstale-bound", "age"}
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in get.headers.items() if k not in volatile
    }


async def test_a_version_from_the_future_is_a_400_that_names_the_header(world: World) -> None:
    response = await world.http.get("/v1/things/a", headers={"neverstale-min-version": "f" * 16})
    assert (response.status_code, problem(response)["parameter"]) == (400, "Neverstale-Min-Version")


async def test_no_cache_reads_mongodb_now(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    await hit(world, "/v1/things/a")
    await world.write("things", {"_id": "a", "n": 2})  # no consumer has seen it
    assert (await world.http.get("/v1/things/a")).json()["n"] == 1
    response = await world.http.get("/v1/things/a", headers={"cache-control": "no-cache"})
    assert response.json()["n"] == 2
    assert response.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"


async def test_max_age_accepts_a_hit_within_it_and_reads_mongodb_beyond_it(world: World) -> None:
    await world.write("things", {"_id": "a"})
    with without("reads of MongoDB prove their age"):
        await world.mark(wall_ms=await world.primary_ms() - 5000)
        await hit(world, "/v1/things/a")
    within = await world.http.get("/v1/things/a", headers={"cache-control": "max-age=60"})
    beyond = await world.http.get("/v1/things/a", headers={"cache-control": "max-age=2"})
    assert within.headers["cache-status"] == "neverstale; hit; detail=l2"
    assert beyond.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"


async def test_max_age_does_not_accept_a_hit_of_unknown_age(world: World) -> None:
    await world.write("things", {"_id": "a"})
    with without("reads of MongoDB prove their age"):
        await hit(world, "/v1/things/a")
    response = await world.http.get("/v1/things/a", headers={"cache-control": "max-age=3600"})
    assert response.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"


async def test_only_if_cached_never_reads_mongodb(world: World) -> None:
    await world.write("things", {"_id": "a"})
    before = loads("things")
    response = await world.http.get("/v1/things/a", headers={"cache-control": "only-if-cached"})
    assert (response.status_code, problem(response)["type"]) == (504, "urn:neverstale:not-cached")
    assert loads("things") == before
    await hit(world, "/v1/things/a")
    cached = await world.http.get("/v1/things/a", headers={"cache-control": "only-if-cached"})
    assert cached.status_code == 200


async def test_a_write_is_read_back_with_its_version(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    await hit(world, "/v1/things/a")
    version = await world.write("things", {"_id": "a", "n": 2})  # no consumer has seen it
    response = await world.http.get("/v1/things/a", headers={"neverstale-min-version": to_hex(version)})
    assert response.json()["n"] == 2
    assert response.headers["neverstale-version"] >= to_hex(version)
    assert response.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"


async def test_a_watermark_at_the_version_lets_the_cache_answer(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    await hit(world, "/v1/things/a")
    version = await world.write("things", {"_id": "b"})
    await world.mark(version)
    response = await world.http.get("/v1/things/a", headers={"neverstale-min-version": to_hex(version)})
    assert response.headers["cache-status"] == "neverstale; hit; detail=l2"


async def test_a_caller_that_sends_back_the_version_of_an_answer_gets_a_hit(world: World) -> None:
    await world.write("things", {"_id": "a"})
    seen = (await hit(world, "/v1/things/a")).headers["neverstale-version"]
    response = await world.http.get("/v1/things/a", headers={"neverstale-min-version": seen})
    assert response.headers["cache-status"] == "neverstale; hit; detail=l2"


async def test_freshness_tells_watermark_and_bound_of_every_resource(world: World) -> None:
    mark = await world.mark(wall_ms=await world.primary_ms() - 1000)
    states = (await world.http.get("/v1/freshness")).json()["resources"]
    assert set(states) == {"things", "numbers", "objects", "tokens"}
    assert states["things"]["watermark"] == to_hex(mark)
    assert states["things"]["bound"] >= 1
    assert states["things"]["why"] is None


async def test_health_and_metrics_are_where_they_are_expected(world: World) -> None:
    async def ready() -> bool:
        answer = await world.http.get("/readyz")
        parts = answer.json()["parts"]
        return answer.status_code == 200 and (parts["mongodb"], parts["redis"]) == ("ok", "ok")

    await eventually(ready, "the API is ready")
    assert (await world.http.get("/livez")).json() == {"live": True}
    assert "neverstale_reads_total" in (await world.http.get("/metrics")).text
    assert (await world.http.get("/docs")).status_code == 200


async def test_an_error_of_ours_tells_nothing_of_the_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError("mongodb://user:password@host")

    monkeypatch.setattr(world.reader, "get", fails)
    response = await world.http.get("/v1/things/a")
    assert (response.status_code, problem(response)["type"]) == (500, "urn:neverstale:internal")
    assert "password" not in response.text
