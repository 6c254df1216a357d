"""Negative controls: each takes one rule of ours away. The product itself has no such switches.

    python -m tests.faults.rig.sabotage 'RULE|RULE' run ROLE

starts a role in which the rules do not hold; `without(rule)` does the same within this process.
"""

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from typing import Any
from unittest.mock import patch

from neverstale.mongodb.replies import RawReply

Patches = Iterator[AbstractContextManager[Any]]
Rule = Callable[[], Patches]

RULES: dict[str, Rule] = {}
SEPARATOR = "|"
SILENT_AFTER_CALLS = 20
MARKER_MS = 3000


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register the patches that take a rule away."""

    def register(patches: Rule) -> Rule:
        assert name not in RULES, name
        RULES[name] = patches
        return patches

    return register


@contextlib.contextmanager
def without(name: str | None) -> Iterator[None]:
    """In here the rule does not hold. `None`: all do."""
    with ExitStack() as stack:
        if name is not None:
            for each in RULES[name]():
                stack.enter_context(each)
        yield


def replaced(target: str, new: Any) -> AbstractContextManager[Any]:
    """`module:attribute.attribute` is `new`."""
    module, _, attributes = target.partition(":")
    *path, last = attributes.split(".")
    owner: Any = import_module(module)
    for name in path:
        owner = getattr(owner, name)
    return patch.object(owner, last, new)


def script_changed(name: str, *changes: tuple[str, str]) -> AbstractContextManager[Any]:
    """The shipped script with passages replaced; they must still be there to be replaced."""
    from neverstale.redis import scripts

    shipped = scripts.source

    def source(asked: Any) -> str:
        text = shipped(asked)
        for old, new in changes if asked == name else ():
            assert text.count(old) == 1, f"{name}.lua has changed: {old!r}"
            text = text.replace(old, new)
        return text

    return replaced("neverstale.redis.scripts:source", source)


# --- filling


def _fills_anyway(*refusals: str) -> AbstractContextManager[Any]:
    """What the script refuses for these reasons is stored all the same."""
    from neverstale.keys import digest
    from neverstale.redis.cache import Cache, Fill
    from neverstale.redis.entries import NO_ETAG, etag_of
    from neverstale.versions import to_hex

    offer = Cache.fill

    def entry(fill: Fill) -> bytes:
        kind = b"D" if fill.body is not None else b"N"
        version, etag = to_hex(fill.version).encode(), etag_of(fill.body) if fill.body is not None else NO_ETAG
        header = (kind, b"0", kind, version, version, b"0" * 16, b"0" * 13, digest(fill.key), etag)
        return b"".join((*header, fill.body or b""))

    async def fill(self: Cache, fills: Sequence[Fill]) -> list[str]:
        results = await offer(self, fills)
        for each, result in zip(fills, results, strict=True):
            if result in refusals:
                await self.send(("SET", each.key, entry(each), "PX", each.ttl_ms))
        return ["filled" if result in refusals else result for result in results]

    return replaced("neverstale.redis.cache:Cache.fill", fill)


@rule("a plain SET fills")
def _plain_set() -> Patches:
    yield _fills_anyway("missing", "token", "version")


@rule("a missing entry counts as fresh")
def _missing_is_fresh() -> Patches:
    yield _fills_anyway("missing")


@rule("fills are not compared")
def _fills_not_compared() -> Patches:
    yield script_changed(
        "fill",
        ("if string.sub(header, 36, 51) ~= token then", "if false then"),
        ("if state == 'S' and version < held then", "if false then"),
        ("elseif version <= held then", "elseif false then"),
    )


# --- sharing reads


def _no_flights() -> AbstractContextManager[Any]:
    """Nobody finds the flight of another."""
    from api.reads.misses import Misses

    class Forgetful(dict[bytes, Any]):
        def get(self, *_: Any) -> None:
            return None

    start = Misses.__init__

    def forgetful(self: Misses, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        self._flights = Forgetful()

    return replaced("api.reads.misses:Misses.__init__", forgetful)


@rule("no single flight")
def _no_single_flight() -> Patches:
    yield _no_flights()


@rule("leases are always granted")
def _leases_granted() -> Patches:
    yield script_changed("lease", ("if left > 0 and left <= LONGEST_MS then", "if false then"))


@rule("every miss reads by itself")
def _misses_alone() -> Patches:
    """No flight, no lease, and no snapshot for several."""
    from api.reads.reader import Reader
    from neverstale.role.tasks import at_once

    answer = Reader._answer_rest

    async def one_by_one(self: Reader, source: Any, asks: Any, floor: Any) -> None:
        await at_once(*(answer(self, source, [ask], floor) for ask in asks))

    yield _no_flights()
    yield from _leases_granted()
    yield replaced("api.reads.reader:Reader._answer_rest", one_by_one)
    yield replaced("api.reads.bulkhead:KEYS_A_READ", 1)


@rule("all absences are kept")
def _absences_kept() -> Patches:
    yield replaced("api.reads.unknown_keys:Doorkeeper.admits", lambda *_: True)


@rule("made-up ids take all places")
def _made_up_ids_are_known() -> Patches:
    yield replaced("api.reads.unknown_keys:Doorkeeper.knows", lambda *_: True)


@rule("the bound is ignored")
def _bound_ignored() -> Patches:
    """Every answer says that it misses nothing."""
    from api.freshness.bound import Bounds

    bound = Bounds.bound

    def boast(self: Bounds, complete: int) -> float | None:
        return None if bound(self, complete) is None else 0.0

    yield replaced("api.freshness.bound:Bounds.bound", boast)


@rule("reads of MongoDB prove their age")
def _marks_alone() -> Patches:
    async def nothing(_: Any) -> None:
        pass

    yield replaced("api.freshness.proofs:Proofs.ready", nothing)
    yield replaced("api.freshness.proofs:Proofs.expect", lambda _: None)


# --- reading MongoDB


@rule("documents are decoded as the driver does")
def _driver_decodes() -> Patches:
    """It refuses what it cannot hold, and makes something else of other things."""
    import bson

    from neverstale.bson.values import CODEC

    def strict(raw: bytes) -> dict[str, Any]:
        return bson.decode(raw, CODEC)

    for module in ("bson.values", "mongodb.loader", "mongodb.replies"):
        yield replaced(f"neverstale.{module}:decode", strict)
    yield replaced("neverstale.mongodb.replies:by_driver", strict)


@rule("whatever MongoDB refuses is an outage")
def _one_breaker_for_all_errors() -> Patches:
    from neverstale.errors import NeverstaleError, Outage

    def outage(error: Exception, operation: str) -> NeverstaleError:
        return Outage("mongodb", type(error).__name__)

    yield replaced("neverstale.mongodb.refusals:_ours", outage)


@rule("what a read is of is not looked at")
def _kinds_ignored() -> Patches:
    yield replaced("neverstale.mongodb.kinds:Kind.told", property(lambda kind: True))
    yield replaced("neverstale.mongodb.kinds:Kind.bounded", property(lambda kind: True))


@rule("no lower bound")
def _no_lower_bound() -> Patches:
    from neverstale.mongodb.loader import Loader, Snapshot

    load = Loader.load

    async def unbounded(self: Loader, resource: Any, keys: Any, at_least: int) -> Snapshot:
        return await load(self, resource, keys, 0)

    yield replaced("neverstale.mongodb.loader:Loader.load", unbounded)


@rule("read concern local")
def _read_concern_local() -> Patches:
    from neverstale.bson.values import decode, encode
    from neverstale.mongodb.loader import Loader
    from neverstale.mongodb.refusals import Operation
    from neverstale.mongodb.replies import REPLY

    command = Loader._command

    async def local(self: Loader, asked: dict[str, Any], operation: Operation) -> RawReply:
        reply = decode(bytes((await command(self, {**asked, "readConcern": {"level": "local"}}, operation)).raw))
        reply["cursor"].setdefault("atClusterTime", reply["operationTime"])
        return RawReply(encode(reply), REPLY)

    yield replaced("neverstale.mongodb.loader:Loader._command", local)


# --- watching


@rule("the token is stored before the acknowledgement")
def _token_before_ack() -> Patches:
    from streams.acks import Acks, SentBatch

    add = Acks.add

    async def hasty(self: Acks, flight: SentBatch) -> None:
        self._reached(flight.position)
        await add(self, flight)

    yield replaced("streams.acks:Acks.add", hasty)


@rule("no outer retry")
def _no_outer_retry() -> Patches:
    from streams.watcher import Watcher

    def judge(_: Watcher, error: Exception) -> None:
        raise error

    yield replaced("streams.watcher:Watcher._judge", judge)


@rule("resume from now, silently")
def _resume_silently() -> Patches:
    yield replaced("streams.translate:Watched.every_floor", lambda *_: [])


@rule("tokens only from changes")
def _tokens_only_from_changes() -> Patches:
    from dataclasses import replace

    from streams.acks import Acks, SentBatch

    add = Acks.add
    last: dict[Acks, Any] = {}

    async def idle(self: Acks, flight: SentBatch) -> None:
        if flight.records.get("change") or self not in last:
            last[self] = flight.position
        await add(self, replace(flight, position=last[self]))

    yield replaced("streams.acks:Acks.add", idle)


def _stream_command(change: Callable[[list[dict[str, Any]]], None]) -> AbstractContextManager[Any]:
    """The pipeline with which a change stream is opened is changed on its way to the server."""
    from pymongo.asynchronous.database import AsyncDatabase

    send = AsyncDatabase.command

    async def command(self: Any, asked: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(asked, dict) and "$changeStream" in (asked.get("pipeline") or [{}])[0]:
            change(asked["pipeline"])
        return await send(self, asked, *arguments, **options)

    return replaced("pymongo.asynchronous.database:AsyncDatabase.command", command)


@rule("resumeAfter")
def _resume_after() -> Patches:
    def change(stages: list[dict[str, Any]]) -> None:
        if (token := stages[0]["$changeStream"].pop("startAfter", None)) is not None:
            stages[0]["$changeStream"]["resumeAfter"] = token

    yield _stream_command(change)


@rule("drops are not told")
def _drops_not_told() -> Patches:
    yield replaced("streams.translate:Watched.floors", lambda *_: [])


@rule("bodies are not projected away")
def _bodies_stay() -> Patches:
    def change(stages: list[dict[str, Any]]) -> None:
        stages[0]["$changeStream"]["fullDocument"] = "updateLookup"
        for stage in stages:
            if "$project" in stage:
                stage["$project"] = {**stage["$project"], "body": "$fullDocument", "update": "$updateDescription"}

    yield _stream_command(change)


# --- publishing


@rule("bare start and stop of the producer")
def _bare_producer() -> Patches:
    from aiokafka import AIOKafkaProducer

    async def start(producer: AIOKafkaProducer, _: float) -> None:
        await producer.start()

    async def stop(producer: AIOKafkaProducer) -> None:
        await producer.stop()

    yield replaced("neverstale.kafka.producer:_start", start)
    yield replaced("neverstale.kafka.producer:_discard", stop)


@rule("a producer that was given up is not closed")
def _left_producer() -> Patches:
    async def leave(_: Any) -> None:
        pass

    yield replaced("neverstale.kafka.producer:_discard", leave)


@rule("keep the producer")
def _keep_producer() -> Patches:
    from neverstale.kafka import producer

    started = producer.started_producer
    kept: list[Any] = []

    @contextlib.asynccontextmanager
    async def keeping(*given: Any) -> AsyncIterator[Any]:
        if not kept:
            kept.append(await started(*given).__aenter__())
        yield kept[0]

    yield replaced("streams.publisher:started_producer", keeping)


@rule("records are spoilt")
def _records_spoilt() -> Patches:
    """Not a control but a fault: of the changes one in a hundred cannot be read."""
    import re
    from random import Random

    from streams.publisher import Publisher

    put, dice = Publisher.put, Random(1)

    def spoilt(self: Publisher, partition: int, key: bytes | None, value: bytes) -> None:
        if key is not None and dice.random() < 0.01:
            kind = dice.randrange(5)
            if kind == 0:
                value = value[: len(value) // 2]
            elif kind == 1:
                value = value.replace(b'"f":1', b'"f":99')
            elif kind == 2:
                value = value.replace(b'"kind":"change"', b'"kind":"strange"')
            elif kind == 3:
                value = re.sub(rb'"ver":"[0-9a-f]{8}', b'"ver":"f0000000', value)
            else:
                key, value = None, b"\x00 no json"
        put(self, partition, key, value)

    yield replaced("streams.publisher:Publisher.put", spoilt)


# --- consuming


@rule("offsets are reset to the latest")
def _reset_latest() -> Patches:
    yield _kafka_options(auto_offset_reset="latest")
    # Redis would tell that it lacks what comes before, and what is lacking and gone voids everything.
    yield from _same_redis()


@rule("raise in the handler")
def _raise_in_handler() -> Patches:
    from neverstale.errors import DeadLetter
    from neverstale.kafka import events

    decode = events.decode

    def strict(value: bytes | None) -> Any:
        try:
            return decode(value)
        except DeadLetter as error:
            raise RuntimeError("cannot be read") from error

    yield replaced("neverstale.kafka.events:decode", strict)


@rule("dead letters are dropped")
def _dead_letters_dropped() -> Patches:
    async def dropped(self: Any, poison: Any, wanted: Any) -> None:
        pass

    yield replaced("consumers.dead_letters:DeadLetters.put", dropped)


@rule("the first client goes silent")
def _first_client_silent() -> Patches:
    """Not a control but a fault (aiokafka's issues 1037 and 1154): alive, in the group, and fetching nothing."""
    import asyncio

    from aiokafka import AIOKafkaConsumer

    getmany, clients = AIOKafkaConsumer.getmany, []
    calls = 0

    async def silent(self: Any, *partitions: Any, timeout_ms: int = 0, max_records: Any = None) -> Any:
        nonlocal calls
        if self not in clients:
            clients.append(self)
        calls += 1
        if self is clients[0] and calls > SILENT_AFTER_CALLS:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        return await getmany(self, *partitions, timeout_ms=timeout_ms, max_records=max_records)

    yield replaced("aiokafka:AIOKafkaConsumer.getmany", silent)


@rule("no progress watchdog")
def _no_watchdog() -> Patches:
    yield replaced("consumers.group.stuck:Progress.look", lambda *_: None)


@rule("what another Redis lacks is not looked at")
def _same_redis() -> Patches:
    from consumers.replay import Reach

    async def trusting(_: Any, batch: Any, done: Any) -> Reach:
        return Reach(set(batch.offsets))

    yield replaced("consumers.replay:Accounts.reach", trusting)


@rule("a marker is a key of its own")
def _marker_key() -> Patches:
    """Invalidating deletes the entry and leaves a marker that lives as long as a fill may take."""
    from neverstale.errors import Outage
    from neverstale.redis.cache import Cache, Fill
    from neverstale.redis.corrections import Corrections, Invalidated
    from neverstale.versions import to_hex

    yield from _missing_is_fresh()
    offer, register = Cache.fill, Corrections.invalidate

    async def invalidate(
        self: Corrections, applied: int, keys: Any, told: Any, *others: Any, **how: Any
    ) -> Invalidated:
        done = await register(self, applied, [], [], *others, **how)
        for key, version in zip(keys, told[::2], strict=True):
            with contextlib.suppress(Outage):
                await self.send(("DEL", key), ("SET", key + b":marker", version, "PX", MARKER_MS))
        return done

    async def fill(self: Cache, fills: Sequence[Fill]) -> list[str]:
        (markers,) = await self.send(("MGET", *(each.key + b":marker" for each in fills)))
        good = [not held or held.decode() <= to_hex(each.version) for each, held in zip(fills, markers, strict=True)]
        allowed = [each for each, is_good in zip(fills, good, strict=True) if is_good]
        results = iter(await offer(self, allowed) if allowed else [])
        return [next(results) if is_good else "version" for is_good in good]

    yield replaced("neverstale.redis.corrections:Corrections.invalidate", invalidate)
    yield replaced("neverstale.redis.cache:Cache.fill", fill)


@rule("sessions demand nothing")
def _no_demands() -> Patches:
    yield replaced("neverstale.client:Session.headers", {})


# --- deriving


@rule("half of what is derived from is read as early as it may be")
def _lagging_reads() -> Patches:
    """Not a control but a fault: a member that lags behind as far as it is allowed to answers."""
    import random

    from neverstale.mongodb.loader import Loader

    find, dice = Loader._find, random.Random(1)

    async def lagging(self: Loader, collection: str, keys: Any, projection: Any, concern: dict[str, Any]) -> Any:
        if "afterClusterTime" in concern and dice.random() < 0.5:
            concern = {"level": "snapshot", "atClusterTime": concern["afterClusterTime"]}
        return await find(self, collection, keys, projection, concern)

    yield replaced("neverstale.mongodb.loader:Loader._find", lagging)


@rule("INCR instead of contributions")
def _incr() -> Patches:
    """Inserts add one and deletes take one away as often as they are told."""
    from neverstale.derived.contributions import Contribution
    from neverstale.derived.plan import Plan

    class Counted(Plan):
        told = False

        def _add(self, key: str, said: Any, held: bytes, observed: Any) -> None:
            operations = [one.operation for one in said]
            self.told = not {"insert", "delete"}.isdisjoint(operations)
            super()._add(key, said, held, observed)
            self.told = False
            for operation in operations:
                if operation == "insert" and observed is not None:
                    self.differ(key, None, observed)
                elif operation == "delete" and held:
                    self.differ(key, Contribution.unpack(held).facts, None)

        def differ(self, key: str, before: Any, after: Any) -> None:
            if not self.told:
                super().differ(key, before, after)

    yield replaced("consumers.derived.derive:Plan", Counted)


@rule("tags of stored groups are not raised")
def _stored_groups_stay() -> Patches:
    yield replaced("neverstale.derived.plan:Plan._left", lambda *_: ())


@rule("tags of named groups are not raised")
def _named_groups_stay() -> Patches:
    yield replaced("neverstale.derived.plan:Plan._named", lambda *_: ())


@rule("tags are raised to s alone")
def _tags_to_s() -> Patches:
    yield replaced("neverstale.derived.plan:tag_version", lambda read_at, _: read_at)


@rule("any contribution takes the place of any other")
def _no_version_check() -> Patches:
    """Neither is the stored one compared with what was fetched, nor its version with the read's: each of the two
    makes up for the other."""
    yield replaced("neverstale.derived.plan:replaces", lambda *_: True)
    yield script_changed(
        "contribute", ("if (redis.call('HGET', key(i), ARGV[i + 1]) or '') ~= ARGV[i + 2] then", "if false then")
    )


@rule("any read may create a contribution")
def _any_read_creates() -> Patches:
    yield script_changed("contribute", ("if begun and version < begun then", "if false then"))


# --- serving and stopping


@rule("reads share a connection and leave replies on it")
def _replies_left() -> Patches:
    """Whoever is cancelled before the reply came leaves it to the next, and nobody looks whose it is."""
    import asyncio

    from redis.exceptions import RedisError

    from api.reads.answer import ANYTHING, Answer, Wish
    from api.reads.reader import Reader
    from neverstale.redis.entries import HEADER_BYTES

    get = Reader.get
    shared: dict[Reader, list[tuple[Any, asyncio.Lock]]] = {}

    async def careless(self: Reader, source: Any, key: Any, wish: Wish = ANYTHING) -> Answer:
        if self not in shared:
            pool: Any = self._cache._redis.connection_pool
            shared[self] = [(pool.make_connection(), asyncio.Lock()) for _ in range(20)]
        connection, lock = shared[self][0]
        shared[self].append(shared[self].pop(0))
        raw = None
        with contextlib.suppress(RedisError):
            async with lock:
                await connection.connect()
                await connection.send_command("GET", self._turns[source.name].shelf.name(key)[1])
                raw = await connection.read_response(disconnect_on_error=False, timeout=10)
        if not raw or raw[:1] != b"D":
            return await get(self, source, key, wish)
        return Answer(raw[HEADER_BYTES:], raw[80:96], 0, 0, "hit", "l2")

    @contextlib.contextmanager
    def closed() -> Iterator[None]:
        """No pool knows these connections, so nobody else closes them."""
        yield
        for connections in shared.values():
            for connection, _ in connections:
                connection._close()

    yield closed()
    yield replaced("api.reads.reader:Reader.get", careless)


@rule("the library's time-outs")
def _library_timeouts() -> Patches:
    from redis.asyncio import Redis

    def patient(settings: Any, **_: Any) -> Redis:
        return Redis.from_url(settings.url.get_secret_value())

    yield replaced("api.app:redis_client", patient)


@rule("a guard that matches paths")
def _guard_matches_paths() -> Patches:
    """A document's path wants a token. Nobody thought of the other ways to ask for one."""
    import re

    from api.limits.middleware import Limited

    call = Limited.__call__

    async def naive(self: Limited, scope: Any, receive: Any, send: Any) -> None:
        guarded = scope["type"] == "http" and re.fullmatch("/v1/[a-z]+/[a-z]+", scope["path"])
        await (call(self, scope, receive, send) if guarded else self._app(scope, receive, send))

    yield replaced("api.limits.middleware:Limited.__call__", naive)


@rule("heads may take for ever")
def _heads_for_ever() -> Patches:
    yield replaced("api.server.deadlines:TimedProtocol._look", lambda self: None)


@rule("no drain")
def _no_drain() -> Patches:
    import asyncio
    import os
    import signal

    def listen(_: asyncio.Event, __: float) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)

    yield replaced("neverstale.role.service:listen_for_signals", listen)


# --- options of Kafka's client


def _kafka_options(**changed: Any) -> AbstractContextManager[Any]:
    from consumers.group.client import options

    return replaced("consumers.group.member:options", lambda settings: options(settings) | changed)


@rule("auto-commit")
def _auto_commit() -> Patches:
    yield _kafka_options(enable_auto_commit=True, auto_commit_interval_ms=20)
    # Redis notes itself what it was told, and whoever comes next would be told that something is missing.
    yield from _same_redis()


def main(argv: list[str]) -> None:
    from ops import cli

    names, *command = argv
    with ExitStack() as stack:
        for name in names.split(SEPARATOR):
            stack.enter_context(without(name))
        sys.argv = ["neverstale", *command]
        cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
