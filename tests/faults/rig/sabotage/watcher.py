"""Watching, and publishing what was seen."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.faults.rig.sabotage.rules import (
    Patches,
    replaced,
    rule,
)


@rule("the token is stored before the acknowledgement")
def _token_before_ack() -> Patches:
    from neverstale.streams.acks import Acks, SentBatch

    add = Acks.add

    async def hasty(self: Acks, flight: SentBatch) -> None:
        self._reached(flight.position)
        await add(self, flight)

    yield replaced("neverstale.streams.acks:Acks.add", hasty)


@rule("no outer retry")
def _no_outer_retry() -> Patches:
    from neverstale.streams.watcher import Watcher

    def judge(_: Watcher, error: Exception) -> None:
        raise error

    yield replaced("neverstale.streams.watcher:Watcher._judge", judge)


@rule("resume from now, silently")
def _resume_silently() -> Patches:
    yield replaced("neverstale.streams.translate:Watched.every_floor", lambda *_: [])


@rule("tokens only from changes")
def _tokens_only_from_changes() -> Patches:
    from dataclasses import replace

    from neverstale.streams.acks import Acks, SentBatch

    add = Acks.add
    last: dict[Acks, Any] = {}

    async def idle(self: Acks, flight: SentBatch) -> None:
        if flight.records.get("change") or self not in last:
            last[self] = flight.position
        await add(self, replace(flight, position=last[self]))

    yield replaced("neverstale.streams.acks:Acks.add", idle)


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
    yield replaced("neverstale.streams.translate:Watched.floors", lambda *_: [])


@rule("bodies are not projected away")
def _bodies_stay() -> Patches:
    def change(stages: list[dict[str, Any]]) -> None:
        stages[0]["$changeStream"]["fullDocument"] = "updateLookup"
        for stage in stages:
            if "$project" in stage:
                stage["$project"] = {**stage["$project"], "body": "$fullDocument", "update": "$updateDescription"}

    yield _stream_command(change)


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

    yield replaced("neverstale.streams.publisher:started_producer", keeping)


@rule("records are spoilt")
def _records_spoilt() -> Patches:
    """Not a control but a fault: of the changes one in a hundred cannot be read."""
    import re
    from random import Random

    from neverstale.streams.publisher import Publisher

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

    yield replaced("neverstale.streams.publisher:Publisher.put", spoilt)


@rule("what a server refuses is an outage")
def _refusals_are_outages() -> Patches:
    from neverstale.errors import Outage

    def outage(*_: Any) -> Outage:
        return Outage("mongodb", "it does not do it")

    yield replaced("neverstale.streams.error_codes:_refused", outage)
