"""Write acknowledged (w: majority) -> Redis corrected, beside the bare change stream of the same run.

    python -m benchmarks.latency [--rates 200,1000] [--seconds 15] [--broker auto] [--within 240] [--json FILE]

Real servers, every role a process of its own, one consumer. All entries are filled before the clock runs, and each
document is written once, so the first modification of an entry is its correction. Redis itself tells of it: an
observer subscribes to the invalidation messages of `CLIENT TRACKING` (broadcasting, by key prefix), which Redis
sends at the end of the very turn that modified the key. So nothing polls, and no entry is read meanwhile.
The writer, the observer and a plain `watch()` are processes of their own; all note `time.monotonic()`, one clock.
What they take of the machine counts, too, and is shown.

At each rate the same is measured of the least that could do the work (`benchmarks.peers.bare_pipeline`), while our
own roles are idle: what is beyond it is the price of our rules, whatever the machine.

Meanwhile one entry that nobody writes is read again and again, for the bound that its answers state; and once more
when nothing is written at all. How tight that is depends on the periods of marks and heartbeats, which are settings.

Before that, other documents are written at full speed for a while: a Kafka broker that has just started compiles
itself while it serves, at half a core and with pauses of ten milliseconds, and nobody's broker has just started.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from pymongo import AsyncMongoClient
from redis.asyncio import Redis as RedisClient

from benchmarks import bare_stream, paced_writer, parts
from benchmarks.beside import cpu_seconds, finish, noting
from benchmarks.latency_report import Measured, Rate, as_json, show
from benchmarks.parts import WRONG, attempt
from benchmarks.peers import bare_pipeline
from neverstale.keys import Names, canonical
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.broker import BrokerChoice
from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.ops.truth import corrections
from neverstale.settings import RedisSettings

DATABASE: Final = "bench"
COLLECTION: Final = "items"
PEER: Final = "peer"
"""Collection, topic and prefix in Redis of the least that could do the work."""
CATALOG: Final = f"""\
database = "{DATABASE}"

[resources.{COLLECTION}]
key_type = "int"
on_change = "invalidate"
"""
IDLE_SECONDS: Final = 6.0
UNKNOWN: Final = "unknown"
READ_EVERY_SECONDS: Final = 0.05
EXERCISE_SECONDS: Final = 25.0
EXERCISE_WRITERS: Final = 8
UNWRITTEN: Final = -1
"""A document that is only written while the broker is exercised."""
WARM_UP_SECONDS: Final = 3.0
KEYS_A_REQUEST: Final = 200
SETTLE_SECONDS: Final = 60.0
SETTLE_POLL_SECONDS: Final = 0.05
WITHIN_SECONDS: Final = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyOptions:
    rates: Sequence[int] = (200, 1000)
    seconds: float = 15
    exercise_seconds: float = EXERCISE_SECONDS
    broker: BrokerChoice = "auto"


async def measure(options: LatencyOptions) -> Measured:
    """Start everything, measure rate after rate, stop everything."""
    with tempfile.TemporaryDirectory(prefix="neverstale-latency-") as name:
        folder = Path(name)
        catalog = folder / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog, broker=options.broker)) as stack:
            counts = [int(rate * (WARM_UP_SECONDS + options.seconds)) for rate in options.rates]
            await _load(stack.mongo_uri, COLLECTION, sum(counts))
            await _load(stack.mongo_uri, PEER, sum(counts))
            await bare_pipeline.make_topic(stack.bootstrap_servers, PEER)
            await stack.start_roles()
            await _exercise(stack.mongo_uri, options.exercise_seconds)
            uncached = await _fill(stack, sum(counts))
            found, wrong = list[Rate](), dict[int, str]()
            for place, rate in enumerate(options.rates):
                first = sum(counts[:place])
                numbers = range(first, first + counts[place])
                limit = 2 * (WARM_UP_SECONDS + options.seconds + SETTLE_SECONDS)
                outcome = await attempt(_measure_both(stack, folder, rate, numbers, found), limit)
                if WRONG in outcome:
                    wrong[rate] = outcome[WRONG]
            async with _bounds(stack.api_url) as idle:
                await asyncio.sleep(IDLE_SECONDS)
            return Measured(stack.kafka.description, found, sorted(idle), wrong, uncached)


async def _measure_both(
    stack: LocalStack, folder: Path, rate: int, numbers: range, found: list[Rate]
) -> Mapping[str, Any]:
    found.append(await _measure_rate(stack, folder, rate, numbers))
    found[-1].peer = await _measure_peer(stack, folder, rate, numbers)
    return {}


@dataclass(frozen=True, slots=True)
class _Scene:
    """Documents of one collection, each written once, at a rate, while an observer of Redis and a bare change stream
    note what they see."""

    stack: LocalStack
    folder: Path
    collection: str
    rate: int
    numbers: range

    @asynccontextmanager
    async def watched(self, prefix: str) -> AsyncIterator[tuple[RunningProcess, RunningProcess]]:
        """`prefix`: of the keys in Redis that stand for the documents."""
        seen, told, stack = self._notes("seen"), self._notes("told"), self.stack
        observer = ("neverstale.ops.truth.corrections", stack.redis_url, prefix, str(seen), "--no-headers")
        bare = ("benchmarks.bare_stream", stack.mongo_uri, DATABASE, self.collection, str(told))
        async with noting("observer", observer, seen) as watching, noting("bare stream", bare, told) as listening:
            yield watching, listening

    async def write(self) -> None:
        numbers, notes = self.numbers, self._notes("written")
        pace = (str(numbers.start), str(len(numbers)), str(self.rate), str(notes))
        writer = ("benchmarks.paced_writer", self.stack.mongo_uri, DATABASE, self.collection, *pace)
        await finish("writer", writer, self.folder / "writer.log")

    def found(self, key_of: Callable[[int], bytes]) -> Rate:
        """Once nobody notes any more."""
        seen, told, written = map(self._notes, ("seen", "told", "written"))
        first = self.numbers.start + int(self.rate * WARM_UP_SECONDS)
        return join(self.rate, seen, told, written, first, key_of)

    def _notes(self, name: str) -> Path:
        return self.folder / f"{name}-{self.collection}-{self.rate}"


async def _measure_rate(stack: LocalStack, folder: Path, rate: int, numbers: range) -> Rate:
    scene = _Scene(stack, folder, COLLECTION, rate, numbers)
    async with scene.watched(Names(RedisSettings().prefix).entry_prefix(COLLECTION).decode()) as beside:
        processes = [*stack.processes, *beside]
        before, started = cpu_seconds(processes), time.monotonic()
        async with _bounds(stack.api_url) as bounds:
            await scene.write()
        after, seconds = cpu_seconds(processes), time.monotonic() - started
        await _until_corrected(stack.redis_url, map(entry, numbers))
    found = scene.found(entry)
    found.bounds = sorted(bounds)
    found.cores = {name: (after[name] - before[name]) / seconds for name in before}
    return found


async def _measure_peer(stack: LocalStack, folder: Path, rate: int, numbers: range) -> list[float]:
    scene, module, kafka = _Scene(stack, folder, PEER, rate, numbers), bare_pipeline.__name__, stack.bootstrap_servers
    applies, watches = folder / f"apply-{rate}", folder / f"watch-{rate}"
    apply = (module, "apply", kafka, PEER, stack.redis_url, f"{PEER}:", str(applies))
    watch = (module, "watch", stack.mongo_uri, DATABASE, PEER, kafka, PEER, str(watches))
    async with RedisClient.from_url(stack.redis_url) as redis:
        await redis.mset({peer_key(number): b"x" * 500 for number in numbers})
        async with noting("apply", apply, applies), noting("watch", watch, watches), scene.watched(f"{PEER}:"):
            await scene.write()
            async with asyncio.timeout(SETTLE_SECONDS):
                while await redis.exists(*map(peer_key, numbers)):  # noqa: ASYNC110 (nothing here could tell us)
                    await asyncio.sleep(SETTLE_POLL_SECONDS)
    return scene.found(peer_key).corrected


def entry(number: int) -> bytes:
    """The key in Redis of a document's entry."""
    return Names(RedisSettings().prefix).entry(COLLECTION, canonical(number))


def peer_key(number: int) -> bytes:
    """The key in Redis that stands for a document of the peer."""
    return b"%s:%d" % (PEER.encode(), number)


def join(
    rate: int, seen: Path, told: Path, written: Path, first: int, key_of: Callable[[int], bytes] = entry
) -> Rate:
    """`first`: documents with a smaller number were written to warm up. `key_of`: the key in Redis that stands for
    a document."""
    corrected_at: dict[bytes, float] = {}
    for sight in corrections.read(seen):
        corrected_at.setdefault(sight.key, sight.at)
    told_at = {event.number: event.at for event in bare_stream.read(told)}
    found = Rate(rate)
    for write in paced_writer.read(written):
        if write.number < first:
            continue
        found.acknowledged.append((write.acknowledged - write.sent) * 1000)
        corrected, bare = corrected_at.get(key_of(write.number)), told_at.get(write.number)
        if corrected is None or bare is None:
            found.missing += 1
            continue
        found.corrected.append((corrected - write.acknowledged) * 1000)
        found.bare.append((bare - write.acknowledged) * 1000)
        found.beyond.append((corrected - bare) * 1000)
    for values in (found.acknowledged, found.corrected, found.bare, found.beyond):
        values.sort()
    return found


# --- before and after


async def _load(uri: str, collection: str, count: int) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        items = client[DATABASE][collection]
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            await items.insert_many([{"_id": number, "rev": 0, "text": "x" * 300} for number in numbers])


async def _exercise(uri: str, seconds: float) -> None:
    """Write documents that nobody measures, as fast as that goes."""
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        items, until = client[DATABASE][COLLECTION], time.monotonic() + seconds

        async def write(number: int) -> None:
            while time.monotonic() < until:
                await items.update_one({"_id": number}, {"$inc": {"rev": 1}}, upsert=True)

        await asyncio.gather(*(write(-number) for number in range(1, EXERCISE_WRITERS + 1)))


async def _fill(stack: LocalStack, count: int) -> int:
    """Read documents through the API until all are cached; how many are not when the time is over."""
    connection = await Connection.open(stack.api_url)
    missing, until = list(range(count)), time.monotonic() + SETTLE_SECONDS
    async with RedisClient.from_url(stack.redis_url) as redis:
        # At first the registers may be unknown, and nothing is cached; a busy machine sheds.
        while missing and time.monotonic() < until:
            for first in range(0, len(missing), KEYS_A_REQUEST):
                keys = ",".join(map(str, missing[first : first + KEYS_A_REQUEST]))
                await connection.get(f"/v1/{COLLECTION}?keys={keys}", SETTLE_SECONDS)
            states = await _states(redis, map(entry, missing))
            missing = [number for number, state in zip(missing, states, strict=True) if state != b"D"]
    connection.close()
    return len(missing)


@asynccontextmanager
async def _bounds(url: str) -> AsyncIterator[list[float]]:
    """What the answers about an entry state that is not written meanwhile, in milliseconds."""
    connection, found = await Connection.open(url), list[float]()

    async def ask() -> NoReturn:
        while True:
            answer = await connection.get(f"/v1/{COLLECTION}/{UNWRITTEN}", SETTLE_SECONDS)
            if (bound := answer.headers.get("neverstale-bound", UNKNOWN)) != UNKNOWN:
                found.append(1000 * float(bound))
            await asyncio.sleep(READ_EVERY_SECONDS)

    asking = asyncio.create_task(ask())
    try:
        yield found
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        connection.close()


async def _until_corrected(url: str, entries: Iterable[bytes]) -> None:
    """Wait until none of the entries is served; only then the observer has seen all that there is to see."""
    left = list(entries)
    async with RedisClient.from_url(url) as redis, asyncio.timeout(SETTLE_SECONDS):
        while b"D" in await _states(redis, left):  # noqa: ASYNC110 (nothing here could tell us)
            await asyncio.sleep(SETTLE_POLL_SECONDS)


async def _states(redis: RedisClient, entries: Iterable[bytes]) -> list[bytes]:
    pipeline = redis.pipeline(transaction=False)
    for each in entries:
        pipeline.getrange(each, 0, 0)
    states: list[bytes] = await pipeline.execute()
    return states


# --- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the targets are met; 1: they are not."""
    defaults = LatencyOptions()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.split("\n")[0])
    parser.add_argument("--rates", default=",".join(map(str, defaults.rates)), help="writes a second, one run each")
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument(
        "--exercise-seconds", type=float, default=defaults.exercise_seconds, help="before the clock runs"
    )
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default=defaults.broker)
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    rates = [int(rate) for rate in given.rates.split(",")]
    options = LatencyOptions(
        rates=rates, seconds=given.seconds, exercise_seconds=given.exercise_seconds, broker=given.broker
    )
    found = parts.measured("latency", measure(options), given)
    if found is None:
        return 1
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(as_json(found), indent=2) + "\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
