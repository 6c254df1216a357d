"""22: clients go away at any moment, while replies of Redis come late or too late.

The API is in this process, behind a real socket, so that its tasks, flights and connections can be counted. Half of
the requests are HTTP and end with the connection; the others are reads that are cancelled where they wait.
"""

import asyncio
import contextlib
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from neverstale import settings as sections
from neverstale.api.reads.answer import ANYTHING, Wish
from neverstale.errors import NeverstaleError
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.truth.oracle import Tally
from neverstale.settings import Settings
from tests.faults.rig.experiment import FOREIGN, STALE, Experiment, Outcome, Turn
from tests.faults.rig.proxy import Proxy
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Served

LEAKED: Final = "left behind"
KEYS: Final = 200
CLIENTS: Final = 100
REQUESTS: Final = 2_000
"""Of one round."""
GONE: Final = 0.7
"""Share of the clients that do not wait for their answers."""
LONGEST_WAIT_SECONDS: Final = 0.03
ANSWER_SECONDS: Final = 20.0
REDIS_MS: Final = 60
"""What comes later is not waited for; some of the delays are longer, there and back."""
DELAYS: Final = (0.0, 0.002, 0.01, 0.08)
DELAY_SECONDS: Final = 0.05
CHANGE_SECONDS: Final = 0.01
ALLOWED: Final = Counter({"connections to Redis": 10, "tasks": 5})
"""Connections are opened and closed at any time, and so come and go tasks that do something every second."""


@dataclass
class Clients:
    """Their requests, and how those ended."""

    served: Served
    dice: Random
    foreign: Tally = field(default_factory=Tally)
    ends: Counter[str] = field(default_factory=Counter)
    left: int = 0

    async def round(self) -> None:
        self.left = REQUESTS
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        connection: Connection | None = None
        while self.left > 0:
            self.left -= 1
            if self.dice.random() < 0.5:
                await self._read()
                continue
            if connection is None or not connection.usable:
                connection = await Connection.open(f"http://{LOOPBACK}:{self.served.port}")
            await self._ask(connection)
        if connection is not None:
            connection.close()

    def _patience(self) -> float:
        return self.dice.uniform(0, LONGEST_WAIT_SECONDS) if self.dice.random() < GONE else ANSWER_SECONDS

    async def _ask(self, connection: Connection) -> None:
        key = _key(self.dice.randrange(KEYS))
        try:
            answer = await connection.get(f"/v1/things/{key}", self._patience())
        except OSError:
            self.ends["connection closed"] += 1
            return
        self.ends[f"status {answer.status}"] += 1
        if answer.status == 200:
            self._judge(key, answer.body)

    async def _read(self) -> None:
        reader: Any = self.served.state.reader
        things = self.served.world.things
        keys = [_key(number) for number in self.dice.sample(range(KEYS), self.dice.choice((1, 1, 5)))]
        wish = Wish(no_cache=True) if self.dice.random() < 0.1 else ANYTHING
        work = reader.get_many(things, keys, wish) if len(keys) > 1 else reader.get(things, keys[0], wish)
        task = asyncio.ensure_future(work)
        await asyncio.wait([task], timeout=self._patience())
        task.cancel()
        try:
            found = await task
        except (asyncio.CancelledError, NeverstaleError, OSError) as error:
            self.ends[type(error).__name__] += 1
            return
        self.ends["answered"] += 1
        for key, answer in zip(keys, found if len(keys) > 1 else [found], strict=True):
            self._judge(key, answer.body or b"null")

    def _judge(self, key: str, body: bytes) -> None:
        document = json.loads(body) or {}
        self.foreign.note(document.get("_id") != key, "asked for", key, "and got", document.get("_id"))


async def leave(turn: Turn) -> Outcome:
    outcome, bench = Outcome(), turn.bench
    mongo, redis, name = await bench.mongod(), await bench.redis(), bench.name("cancels")
    async with Proxy(redis.port) as proxy, _served(mongo.uri, proxy, name) as served:
        clients = Clients(served, turn.random)
        revisions = dict.fromkeys(range(KEYS), 0)
        await served.world.write("things", *({"_id": _key(number), "n": 0} for number in range(KEYS)))
        await served.vouched()
        async with _disturbed(served, proxy, revisions, turn.random):
            await clients.round()  # pools fill up
        before = await _settled(served, proxy, Counter())
        for _ in turn.each_round(outcome):
            async with _disturbed(served, proxy, revisions, turn.random):
                await clients.round()
        after = await _settled(served, proxy, before)
        for what, count in after.items():
            outcome.tally(LEAKED).note(count - before[what] > ALLOWED[what], what, before[what], "->", count)
            outcome.figures[f"more {what}"] = count - before[what]
        outcome.add(FOREIGN, clients.foreign)
        await _judge_all(served, revisions, outcome)
    outcome.figures.update(sorted(clients.ends.items()))
    return outcome


async def _judge_all(served: Served, revisions: dict[int, int], outcome: Outcome) -> None:
    """Every document once more, when all is quiet and applied."""
    await served.vouched()
    connection = await Connection.open(f"http://{LOOPBACK}:{served.port}")
    for number, revision in revisions.items():
        document = json.loads((await connection.get(f"/v1/things/{_key(number)}", ANSWER_SECONDS)).body)
        outcome.tally(FOREIGN).note(document.get("_id") != _key(number), "at the end", number, document)
        outcome.tally(STALE).note(document.get("n") != revision, number, document, "of", revision)
    connection.close()


@contextlib.asynccontextmanager
async def _disturbed(served: Served, proxy: Proxy, revisions: dict[int, int], dice: Random) -> AsyncIterator[None]:
    """In here replies are late, sometimes too late, and documents change."""
    done = asyncio.Event()

    async def delay() -> None:
        while not done.is_set():
            proxy.delay(dice.choice(DELAYS))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), DELAY_SECONDS)

    async def change() -> None:
        while not done.is_set():
            number = dice.randrange(KEYS)
            revisions[number] += 1
            await served.change("things", _key(number), {"n": revisions[number]})
            await asyncio.sleep(CHANGE_SECONDS)

    async with asyncio.TaskGroup() as group:
        group.create_task(delay())
        group.create_task(change())
        try:
            yield
        finally:
            done.set()
            proxy.heal()


async def _settled(served: Served, proxy: Proxy, before: Counter[str]) -> Counter[str]:
    """What there is when nothing is asked any more."""
    counts: Counter[str] = Counter()
    pool = served.state.reader._cache._redis.connection_pool

    async def quiet() -> bool:
        nonlocal counts
        gc.collect()
        counts = Counter(
            {
                "tasks": sum(not _is_of_proxy(task) for task in asyncio.all_tasks()),
                "flights": len(served.state.reader._misses._flights),
                # A pool keeps what it has opened; what nobody has given back is lost to it.
                "connections to Redis": len(pool._in_use_connections),
                "connections of clients": len(served.server.server_state.connections),
            }
        )
        if not before:
            return not counts["flights"] and not counts["connections of clients"]
        return all(count - before[what] <= ALLOWED[what] for what, count in counts.items())

    with contextlib.suppress(AssertionError):
        await eventually(quiet, "all is quiet", 5)
    return counts


@contextlib.asynccontextmanager
async def _served(mongo_uri: str, proxy: Proxy, name: str) -> AsyncIterator[Served]:
    patient = settings_of(mongo_uri, proxy.redis_url, name, breaker_failures=10**9)
    hurried: sections.RedisSettings = patient.redis.model_copy(update={"read_timeout_ms": REDIS_MS})
    settings: Settings = patient.model_copy(update={"redis": hurried})
    async with World.of(settings, catalog_of(name)) as world, Served.of(world) as served:
        yield served


def _is_of_proxy(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "").startswith(("Proxy.", "Way."))


def _key(number: int) -> str:
    return f"key-{number}"


EXPERIMENTS = (
    Experiment(
        number="22",
        fault="clients go away at any moment, replies of Redis are late or too late (long form: 100,000 requests)",
        holds="every reply belongs to its request, nothing is left behind",
        run=leave,
        controls={"reads share a connection and leave replies on it": FOREIGN},
        short=1,
        long=50,
    ),
)
