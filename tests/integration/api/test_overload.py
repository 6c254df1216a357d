"""More reads than MongoDB is asked at once, and than may wait; and reads of what nobody knows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from neverstale.catalog import Catalog, Resource
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.ops.stack.redis import RedisOptions, start_redis
from neverstale.settings import Settings
from neverstale.versions import Version
from tests.integration.api.test_outages import cached, hurried
from tests.integration.api.test_reads import Gap, until
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, loads, settings_of

CLIENTS = 40


async def test_without_redis_what_exceeds_the_queue_is_a_503_that_says_when_to_come_back(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, begun, open_ = Loader.load, asyncio.Event(), asyncio.Event()

    async def held_up(loader: Loader, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        begun.set()
        await open_.wait()
        return await load(loader, resource, keys, at_least)

    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"mongodb_concurrency": 1, "mongodb_queue": 5})
        async with cached(settings.model_copy(update={"api": api}), database) as world:
            redis.kill()
            monkeypatch.setattr(Loader, "load", held_up)
            first = asyncio.create_task(world.http.get("/v1/things/first"))
            await begun.wait()
            # All but the first have to wait, and more than may: they are one read of so many keys.
            others = await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(CLIENTS)))
            open_.set()
            assert (await first).status_code == 404
    assert {other.status_code for other in others} == {503}
    assert all(int(other.headers["retry-after"]) >= 1 for other in others)


# --- made-up ids


async def kept(world: World) -> int:
    """Entries of things in Redis."""
    return len([key async for key in world.redis.scan_iter(match="test:things:d:*", count=1000)])


async def test_of_made_up_ids_only_so_many_absences_are_kept_and_no_lease_is_left(
    mongo_uri: str, database: str, tmp_path: Path
) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"absences_per_second": 0.5})
        async with World.of(settings.model_copy(update={"api": api}), catalog_of(database)) as world:
            answers = await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(100)))
            assert {answer.status_code for answer in answers} == {404}

            async def few() -> bool:
                return await kept(world) <= 3  # half of ten seconds' worth, and of what came since

            await eventually(few, "few absences are kept")
            assert (await world.http.get("/v1/things?keys=1,2,3")).status_code == 200


async def test_an_absence_that_was_withheld_is_kept_when_it_is_found_again(
    mongo_uri: str, database: str, tmp_path: Path
) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"absences_per_second": 0.5})
        async with World.of(settings.model_copy(update={"api": api}), catalog_of(database)) as world:
            await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(20)))

            async def found_again() -> bool:
                await world.http.get("/v1/things/nobody")
                return await world.entry("things", "nobody") is not None

            await eventually(found_again, "it is kept")


async def test_keys_that_nobody_knows_are_refused_before_they_hold_leases(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"mongodb_concurrency": 1, "mongodb_queue": 2})
        async with cached(settings.model_copy(update={"api": api}), database) as world:
            gap = Gap(monkeypatch)
            reading = asyncio.create_task(world.http.get("/v1/things/first"))
            await until(1, gap.read, "the first read")
            waiting = asyncio.create_task(world.http.get("/v1/things/second"))

            async def second_waits() -> bool:
                return await world.entry("things", "second") is not None

            await eventually(second_waits, "the second has its lease")
            others = await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(CLIENTS)))
            assert {other.status_code for other in others} == {503}
            assert await kept(world) == 3  # what was cached, and two leases
            gap.go.set()
            assert {(await each).status_code for each in (reading, waiting)} == {404}


# --- demands

KEPT = 30
"""Documents that are cached; strangers demand to have them read."""
STRANGERS = 60
OTHERS = 12
SLOW_SECONDS = 0.05
SLOWER_SECONDS = 0.25
"""So slow that strangers ask faster than MongoDB answers, on any machine."""
PAUSE_SECONDS = 0.05
"""Between two reads of others: who asked again at once would take the place that his own read has just left."""
TRIES = 12
FLOODS = {
    "many keys": [f"/v1/things/k{number}" for number in range(KEPT)],
    "one key": ["/v1/things/k0"],
    "pages": ["/v1/things/-/lists/of_kind?kind=a", "/v1/things/-/lists/of_kind?kind=b"],
    "many at once": [f"/v1/things?keys=k{number},k{number + 1},k{number + 2}" for number in range(KEPT - 2)],
}
DEMANDS = [{"cache-control": "no-cache"}, {"cache-control": "max-age=0"}, {"neverstale-min-version": "{version}"}]


async def fill(world: World, names: Sequence[str], kind: str) -> None:
    await world.write("things", *({"_id": name, "kind": kind} for name in names))
    for name in names:
        await until_cached(world, name)


async def until_cached(world: World, name: str) -> None:
    """Ask until it is: of a collection that is new, it is first found out what it is."""

    async def cached() -> bool:
        await world.http.get(f"/v1/things/{name}")
        entry = await world.entry("things", name)
        return entry is not None and entry.fresh

    await eventually(cached, f"{name} is cached", 30)


async def flooded(
    world: World, monkeypatch: pytest.MonkeyPatch, paths: Sequence[str], seconds: float = SLOW_SECONDS
) -> tuple[dict[int, int], int]:
    """What others are told who ask for documents that are not cached, while strangers demand reads of what is; and
    how many of the strangers' requests were answered. Each read of MongoDB takes so many `seconds` longer."""
    load = Loader.load

    async def slow(loader: Loader, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        await asyncio.sleep(seconds)
        return await load(loader, resource, keys, at_least)

    # Others ask for what was read before, and is not cached any more.
    wanted = [f"o{number}" for number in range(OTHERS)]
    await fill(world, wanted, "o")
    await world.raise_floor("things", await world.write("things", {"_id": "last", "kind": "o"}))
    for kind in "ab":
        await fill(world, [f"k{number}" for number in range(KEPT) if "ab"[number % 2] == kind], kind)
    monkeypatch.setattr(Loader, "load", slow)
    version = f"{await world.loader.now():016x}"
    over, served = asyncio.Event(), 0

    async def stranger(number: int) -> None:
        nonlocal served
        while not over.is_set():
            demand = {name: value.format(version=version) for name, value in DEMANDS[number % len(DEMANDS)].items()}
            answer = await world.http.get(paths[number % len(paths)], headers=demand)
            served += answer.status_code == 200
            number += 1
            await asyncio.sleep(0.001)

    strangers = [asyncio.create_task(stranger(number)) for number in range(STRANGERS)]
    while not served:  # noqa: ASYNC110 - no request tells us
        await asyncio.sleep(0.01)
    statuses: dict[int, int] = {}
    for name in wanted:
        await asyncio.sleep(PAUSE_SECONDS)
        status = (await world.http.get(f"/v1/things/{name}")).status_code
        statuses[status] = statuses.get(status, 0) + 1
        if status != 200:
            break
    over.set()
    await asyncio.gather(*strangers)
    return statuses, served


def narrow(mongo_uri: str, redis_url: str, prefix: str, demands: str) -> Settings:
    return settings_of(
        mongo_uri,
        redis_url,
        prefix,
        demands=demands,
        mongodb_concurrency=2,
        mongodb_queue=8,
        # Who is crowded out finds the queue full. A busy machine alone must not look like that.
        queue_deadline_ms=10_000,
        wait_ms=10_000,
        lease_ms=20_000,
    )


@pytest.fixture
async def guarded(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    listed = {"key_type": "string", "fields": {"kind": "string"}, "lists": {"of_kind": {"by": ["kind"]}}}
    catalog = Catalog.model_validate({"database": database, "resources": {"things": listed}})
    async with World.of(narrow(mongo_uri, redis_url, redis_prefix, request.param), catalog) as world:
        yield world


@pytest.mark.parametrize("guarded", ["limited"], indirect=True)
@pytest.mark.parametrize("paths", FLOODS.values(), ids=FLOODS)
async def test_in_a_flood_of_demands_misses_of_others_are_served(
    guarded: World, monkeypatch: pytest.MonkeyPatch, paths: Sequence[str]
) -> None:
    statuses, served = await flooded(guarded, monkeypatch, paths)
    print(f"others {statuses}, strangers served {served}")
    assert statuses == {200: OTHERS}
    assert served > 0


@pytest.mark.parametrize("guarded", ["all"], indirect=True)
async def test_without_the_limit_a_flood_of_demands_crowds_out_others(
    guarded: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: dict[int, int] = {}
    for _ in range(TRIES):  # whose read comes first is chance
        with monkeypatch.context() as patched:
            statuses, served = await flooded(guarded, patched, FLOODS["many keys"], SLOWER_SECONDS)
        print(f"others {statuses}, strangers served {served}")
        if statuses.get(503, 0) > 0:
            break
    assert statuses.get(503, 0) > 0


@pytest.mark.parametrize("guarded", ["none"], indirect=True)
async def test_where_nobody_may_demand_a_read_the_cache_meets_the_demand_or_it_is_refused(guarded: World) -> None:
    version = await guarded.write("things", {"_id": "a", "kind": "a"})
    await until_cached(guarded, "a")
    await guarded.mark()
    before = loads("things")
    later = f"{await guarded.write('things', {'_id': 'b', 'kind': 'b'}) + 1000:016x}"

    async def told(**headers: str) -> tuple[int, str]:
        answer = await guarded.http.get("/v1/things/a", headers={k.replace("_", "-"): v for k, v in headers.items()})
        return answer.status_code, answer.json().get("type", "")

    assert await told(cache_control="max-age=60") == (200, "")
    assert await told(neverstale_min_version=f"{version:016x}") == (200, "")
    refused = 403, "urn:neverstale:demand-refused"
    assert await told(cache_control="no-cache") == refused
    assert await told(cache_control="max-age=0") == refused
    assert await told(neverstale_min_version=later) == refused
    assert await told(cache_control="only-if-cached, max-age=0") == (504, "urn:neverstale:not-cached")
    assert loads("things") == before
    page = await guarded.http.get("/v1/things/-/lists/of_kind?kind=a", headers={"cache-control": "max-age=5"})
    assert page.status_code == 200, "nothing was cached: it would have been read anyway"


async def test_many_versions_of_the_future_are_refused_by_few_round_trips(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str
) -> None:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, mongodb_concurrency=4)
    async with World.of(settings, catalog_of(database)) as world:
        await refused_together(world)


async def refused_together(guarded: World) -> None:
    await guarded.write("things", {"_id": "a", "kind": "a"})
    await guarded.mark()
    asked: list[Any] = []
    find = Loader._find

    async def noted(loader: Loader, *arguments: Any) -> Any:
        asked.append(arguments)
        return await find(loader, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Loader, "_find", noted)
        tokens = [f"{2**63 + number:016x}" for number in range(50)]
        requests = (guarded.http.get("/v1/things/a", headers={"neverstale-min-version": token}) for token in tokens)
        answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} == {400}
    assert {answer.json()["parameter"] for answer in answers} == {"Neverstale-Min-Version"}
    print(f"{len(asked)} reads for {len(tokens)} versions of the future")
    assert len(asked) <= 3
