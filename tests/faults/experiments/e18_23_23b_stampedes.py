"""18, 23 and 23b: an empty Redis at peak, thousands of clients on one key, and ids that nobody has heard of."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import psutil
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.stack.process import together
from neverstale.ops.stack.role import Role, RunningRole
from neverstale.versions import from_timestamp
from tests.faults.rig.experiment import BOUND, Experiment, Outcome, Turn
from tests.faults.rig.load import Load, Shape
from tests.faults.rig.pipeline import RESOURCE, Pipeline, metrics, pipeline
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.scene import scene

ERRORS = "5xx or no answer"
LOADED = "more reads of MongoDB than were gathered"
TWICE = "one key read more than once"
LEASED = "more leases asked for than one flight asks for"
KEPT = "more absences kept than the budget"
GROWN = "memory of the API grew"

CROWD = 150
CROWD_KEYS = 100
GATHERED = 3
"""At peak one read of MongoDB must answer at least so many misses."""
CLIENTS = 5_000
AT_ONCE = 250
ANSWER_SECONDS = 20.0
ASKED_AGAIN = 32
"""A flight asks for its lease so often, at most, within `api.wait_ms`."""
MADE_UP = 6_000
"""Ids of one round."""
FLOODERS = 30
IDS_A_REQUEST = 200
ABSENCES_PER_SECOND = 100
BURST_SECONDS = 10
UNDER_WAY = FLOODERS * IDS_A_REQUEST // 2
"""Leases of reads that are on their way."""
SLOW_SECONDS = 0.02
"""MongoDB takes so long each way: a place before it is worth something."""
GROWTH_MB = 120
"""It rises by some 85 MB in the first minute, for garbage is collected rarely, and then stays."""
FIRST_MADE_UP = 10**9
NO_HURRY = {"REDIS__READ_TIMEOUT_MS": "3000", "MONGODB__READ_TIMEOUT_MS": "20000"}
"""Who does not answer in time counts as away. Here only the guards are to count, not a busy machine."""
PATIENT = {"CLIENTS__HEAD_SECONDS": "120", "CLIENTS__KEEP_ALIVE_SECONDS": "120"}
"""Thousands of connections are opened before the first one asks."""


# --- 18


async def empty_redis(turn: Turn) -> Outcome:
    outcome, redis = Outcome(), await turn.bench.new_redis()
    shape = Shape(keys=CROWD_KEYS, reads_per_second=100)
    async with scene(turn, outcome, shape, redis_url=redis.url) as stage:
        for round_ in turn.each_round(outcome):
            before = await _read_counts(stage.api)
            async with _crowd(stage.load, stage.api, turn.random):
                await asyncio.sleep(0.5)
                if round_ % 2:
                    redis.kill()
                    await redis.restart(0)
                else:
                    async with Redis.from_url(redis.url) as client:
                        await client.flushall()
                await stage.load.recovered(outcome, time.monotonic())
            loads, misses = (now - then for now, then in zip(await _read_counts(stage.api), before, strict=True))
            outcome.tally(LOADED).note(loads * GATHERED > misses, f"{loads:.0f} reads for {misses:.0f} misses")
            outcome.count("reads of MongoDB", loads)
            outcome.count("misses", misses)
            await stage.load.check(outcome)
        _note_errors(stage.load, outcome)
    return outcome


def _note_errors(load: Load, outcome: Outcome) -> None:
    for status, count in load.statuses.items():
        for _ in range(count):
            outcome.tally(ERRORS).note(status >= 500, status)
    for sentence in load.broken:
        outcome.tally(ERRORS).note(True, sentence)


async def _read_counts(api: RunningRole) -> tuple[float, float]:
    """Reads of MongoDB, and keys that Redis did not answer."""
    counted = await metrics(api)
    hits = sum(value for name, value in counted.items() if "reads_total{" in name and 'how="hit"' in name)
    return counted.get("neverstale_loads_total", 0), counted.get("neverstale_reads_total", 0) - hits


@contextlib.asynccontextmanager
async def _crowd(load: Load, api: RunningRole, dice: Random) -> AsyncIterator[None]:
    """Clients that ask for some document as soon as they have the last."""
    done = False

    async def client(number: int) -> None:
        connection = await Connection.open(api.url)
        while not done:
            await load.ask(connection, dice.randrange(CROWD_KEYS), number)
            if not connection.usable:
                connection = await Connection.open(api.url)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(CROWD):
            group.create_task(client(load.shape.readers + number))
        try:
            yield
        finally:
            done = True


# --- 23


async def one_key(turn: Turn) -> Outcome:
    """The document changes, the change is applied, and all ask for it at the same moment, half of them each API."""
    outcome = Outcome()
    async with pipeline(turn.bench, turn.rule, on_change="invalidate") as pipe, _written(pipe) as write:
        await write(1)
        apis = await _start(pipe, apis=2, API__WAIT_MS="2000")
        await pipe.passed(await write(2), 20)
        connections = await _connected([api.url for api in apis], CLIENTS)
        for revision in (3 + number for number in turn.each_round(outcome)):
            before = await _fleet(apis)
            await pipe.passed(await write(revision), 20)
            began = time.monotonic()
            statuses = await asyncio.gather(*(_status(connection) for connection in connections))
            outcome.figures["slowest stampede, s"] = max(
                time.monotonic() - began, outcome.figures.get("slowest stampede, s", 0)
            )
            for status in statuses:
                outcome.tally(ERRORS).note(status != 200, status)
            loads, leases = (now - then for now, then in zip(await _fleet(apis), before, strict=True))
            outcome.tally(TWICE).note(loads > 1, f"{loads:.0f} reads")
            outcome.tally(LEASED).note(leases > len(apis) * ASKED_AGAIN, f"{leases:.0f} leases")
            outcome.count("reads of MongoDB", loads)
            outcome.count("leases", leases)
        for connection in connections:
            connection.close()
    return outcome


async def _fleet(apis: Sequence[RunningRole]) -> tuple[float, float]:
    counted = [await metrics(api) for api in apis]
    return tuple(sum(each.get(f"neverstale_{name}_total", 0) for each in counted) for name in ("loads", "leases"))  # type: ignore[return-value]


async def _connected(urls: Sequence[str], count: int) -> list[Connection]:
    made: list[Connection] = []
    while len(made) < count:
        some = range(len(made), min(len(made) + AT_ONCE, count))
        made += await asyncio.gather(*(Connection.open(urls[number % len(urls)]) for number in some))
    return made


async def _status(connection: Connection) -> int:
    try:
        return (await connection.get(f"/v1/{RESOURCE}/1", ANSWER_SECONDS)).status
    except OSError:
        return 0


# --- 23b


async def made_up_ids(turn: Turn) -> Outcome:
    """Random ids, up to 200 a request, while readers read and writers write what exists."""
    outcome, redis = Outcome(), await turn.bench.new_redis()
    member = (await turn.bench.mongod()).members[0]
    narrow = {"API__MONGODB_CONCURRENCY": "2", "API__MONGODB_QUEUE": "300", "API__QUEUE_DEADLINE_MS": "10000"}
    api = {**NO_HURRY, **narrow, "API__ABSENCES_PER_SECOND": str(ABSENCES_PER_SECOND)}
    async with (
        Proxy(member.ports[0]) as proxy,
        scene(
            turn,
            outcome,
            redis_url=redis.url,
            on_change="invalidate",
            api={**api, "MONGODB__URI": f"mongodb://{LOOPBACK}:{proxy.port}/?directConnection=true"},
        ) as stage,
        Redis.from_url(redis.url) as client,
    ):
        proxy.delay(SLOW_SECONDS)
        process = psutil.Process(stage.api.pid)
        keys, resident = await client.dbsize(), process.memory_info().rss
        began = time.monotonic()
        flood = asyncio.create_task(_flood(stage.api, turn.random, turn.rounds * MADE_UP))
        while not flood.done():
            allowed = (BURST_SECONDS + time.monotonic() - began) * ABSENCES_PER_SECOND + UNDER_WAY
            more = await client.dbsize() - keys
            outcome.tally(KEPT).note(more > allowed, f"{more} entries more")
            outcome.figures["entries more"] = max(more, outcome.figures.get("entries more", 0))
            await asyncio.wait([flood], timeout=0.1)
        answered, refused = await flood
        grown = (process.memory_info().rss - resident) / 1e6
        outcome.tally(GROWN).note(grown > GROWTH_MB, f"by {grown:.0f} MB")
        outcome.count("made-up ids answered", answered)
        outcome.count("requests for them refused", refused)
        outcome.figures["ids a second"] = answered / (time.monotonic() - began)
        outcome.figures["more MB of the API"] = grown
        proxy.heal()
        await stage.load.check(outcome)
        _note_errors(stage.load, outcome)
        outcome.figures["slowest honest read, s"] = max(stage.load.latencies, default=0)
    return outcome


async def _flood(api: RunningRole, dice: Random, count: int) -> tuple[int, int]:
    """Ids that were answered, and requests that were refused."""
    answered = refused = 0

    async def client() -> None:
        nonlocal answered, refused
        connection = await Connection.open(api.url)
        while answered < count:
            ids = [str(dice.randrange(FIRST_MADE_UP, 2**62)) for _ in range(dice.randint(1, IDS_A_REQUEST))]
            answer = await connection.get(f"/v1/{RESOURCE}?keys={','.join(ids)}", ANSWER_SECONDS)
            if answer.status == 200:
                answered += len(ids)
            else:
                refused += 1
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(FLOODERS):
            group.create_task(client())
    return answered, refused


# --- all


async def _start(pipe: Pipeline, apis: int, **variables: str) -> list[RunningRole]:
    async def start(role: Role, **variables: str) -> None:
        await pipe.start(role, **variables)

    variables |= NO_HURRY | PATIENT
    await together(start("watcher"), start("consumer"), *(start("api", **variables) for _ in range(apis)))
    return [role for role in pipe.roles if role.name.startswith("api")]


@contextlib.asynccontextmanager
async def _written(pipe: Pipeline) -> AsyncIterator[Any]:
    """Writes a revision of the one document; answers the version."""
    async with AsyncMongoClient[dict[str, Any]](pipe.environment["MONGODB__URI"], w="majority") as client:

        async def write(revision: int) -> int:
            async with client.start_session() as session:
                things = client[pipe.name][RESOURCE]
                await things.replace_one({"_id": 1}, {"rev": revision}, upsert=True, session=session)
                assert session.operation_time is not None
                return from_timestamp(session.operation_time)

        yield write


EXPERIMENTS = (
    Experiment(
        number="18",
        fault="FLUSHALL, and SIGKILL of Redis that comes back empty, at peak",
        holds="misses share few reads of MongoDB, no 5xx",
        run=empty_redis,
        controls={"every miss reads by itself": LOADED, "the bound is ignored": BOUND},
        short=2,
        long=20,
        long_controls=("the bound is ignored",),
    ),
    Experiment(
        number="23",
        fault="5,000 clients ask two APIs for one document that has just changed",
        holds="one read of MongoDB, and one flight in each API",
        run=one_key,
        controls={"leases are always granted": TWICE, "no single flight": LEASED},
        short=2,
        long=50,
        long_controls=("leases are always granted",),
    ),
    Experiment(
        number="23b",
        fault="a flood of made-up ids (long form: a million)",
        holds="Redis and the API do not grow, readers of what exists are served",
        run=made_up_ids,
        controls={"all absences are kept": KEPT, "made-up ids take all places": ERRORS},
        short=1,
        long=168,
        long_controls=("all absences are kept",),
    ),
)
