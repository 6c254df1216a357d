"""Consuming: offsets, dead letters, progress, and what another Redis lacks."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from tests.faults.rig.sabotage.rules import Patches, replaced, rule, without

SILENT_AFTER_CALLS = 20
MARKER_MS = 3000


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

    yield replaced("neverstale.consumers.dead_letters:DeadLetters.put", dropped)


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
    yield replaced("neverstale.consumers.group.stuck:Progress.look", lambda *_: None)


@rule("what another Redis lacks is not looked at")
def _same_redis() -> Patches:
    from neverstale.consumers.replay import Reach

    async def trusting(_: Any, batch: Any, done: Any) -> Reach:
        return Reach(set(batch.offsets))

    yield replaced("neverstale.consumers.replay:Accounts.reach", trusting)


@rule("a marker is a key of its own")
def _marker_key() -> Patches:
    """Invalidating deletes the entry and leaves a marker that lives as long as a fill may take."""
    from neverstale.errors import Outage
    from neverstale.redis.cache import Cache, Fill
    from neverstale.redis.corrections import Corrections, Invalidated
    from neverstale.versions import to_hex

    yield without("a missing entry counts as fresh")
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


def _kafka_options(**changed: Any) -> AbstractContextManager[Any]:
    from neverstale.consumers.group.client import options

    return replaced("neverstale.consumers.group.member:options", lambda settings: options(settings) | changed)


@rule("auto-commit")
def _auto_commit() -> Patches:
    yield _kafka_options(enable_auto_commit=True, auto_commit_interval_ms=20)
    # Redis notes itself what it was told, and whoever comes next would be told that something is missing.
    yield from _same_redis()
