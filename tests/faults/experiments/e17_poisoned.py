"""17: records cannot be read. Each is a dead letter, with what it was and where; nothing else is."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.rig.experiment import LATE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import metrics
from tests.faults.rig.scene import Scene, scene

KEPT: Final = "no dead letter of it"
TRUE: Final = "dead letter without such a record"
ONCE: Final = "dead letters twice"
CHANGES: Final = 60
NONE: Final = "nothing to look at"
LETTER_SECONDS: Final = 10.0
CONTROL_LETTER_SECONDS: Final = 1.0
READ_SECONDS: Final = 10.0
KINDS: Final = ("change", "mark", "floor", "touch", "rebuilt")
FUTURE_SECONDS: Final = 3600

Place = tuple[int, int]
"""Partition and offset in the topic of changes."""


@dataclass(frozen=True, slots=True)
class Bad:
    reason: str
    key: bytes | None
    value: bytes | None


def reason_of(value: bytes | None, now: float) -> str | None:
    """Why a record cannot be applied, in the words of its dead letter; `None`: it can.

    Written anew from what the docs say, so that nothing of ours judges itself.
    """
    try:
        said = json.loads(value or b"")
    except ValueError:
        return "undecodable"
    if said["f"] != 1:
        return "format"
    if said["kind"] not in KINDS:
        return "kind"
    if int(said.get("ver", "0")[:8] or "0", 16) > now + FUTURE_SECONDS:
        return "version"
    return None


async def poison(turn: Turn) -> Outcome:
    """The watcher's own records are spoilt before they are sent, so that what they said is known to nobody else."""
    outcome = Outcome()
    async with scene(turn, outcome, inject=["records are spoilt"]) as stage:
        restarts = 0
        for round_ in turn.each_round(outcome):
            for key in stage.load.random.sample(range(stage.load.shape.keys), CHANGES):
                await stage.load.change(key)
            if round_ % 2:
                stage.consumer.kill()
                await stage.consumer.restart(0)
                restarts += 1
            await stage.load.check(outcome)
        await stage.load.pause()
        if stage.consumer.alive:
            seconds = CONTROL_LETTER_SECONDS if turn.rule else LETTER_SECONDS
            await _judge(stage, outcome, seconds, once=restarts == 0)
        stage.load.gate.set()
    return outcome


async def _judge(stage: Scene, outcome: Outcome, seconds: float, *, once: bool) -> None:
    """Compare the topic of dead letters with the topic of changes."""
    await stage.pipe.passed(stage.load.writes.last_version, seconds)
    deadline = time.monotonic() + seconds
    while True:
        bad = await _bad_records(stage)
        letters = await _read(stage, f"{stage.pipe.name}.dead", 1)
        found = Counter(map(_origin, letters))
        if found.keys() >= bad.keys() or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    outcome.tally(NONE).note(not bad, "no record was spoilt")
    for place, record in bad.items():
        outcome.tally(KEPT).note(place not in found, f"{place}: {record}")
    for letter in letters:
        outcome.tally(TRUE).note(_bad_of(letter, stage.pipe.name) != bad.get(_origin(letter)), str(letter))
    # What was fetched under an assignment that was taken away is fetched again: then some may be there twice.
    rebalances = (await metrics(stage.consumer))["neverstale_rebalances_total"]
    for place, times in found.items():
        if once and rebalances == 0:
            outcome.tally(ONCE).note(times > 1, f"{place}: {times} times")
    outcome.count("spoilt records", len(bad))
    outcome.count("dead letters", len(letters))
    for reason, count in Counter(record.reason for record in bad.values()).items():
        outcome.count(f"spoilt: {reason}", count)


async def _bad_records(stage: Scene) -> dict[Place, Bad]:
    now = time.time()
    return {
        (record.partition, record.offset): Bad(reason, record.key, record.value)
        for record in await _read(stage, stage.pipe.name, int(stage.pipe.environment["KAFKA__PARTITIONS"]))
        if (reason := reason_of(record.value, now)) is not None
    }


def _origin(letter: Any) -> Place:
    ours = dict(letter.headers)
    return int(ours["neverstale-partition"]), int(ours["neverstale-offset"])


def _bad_of(letter: Any, topic: str) -> Bad | None:
    ours = dict(letter.headers)
    if ours["neverstale-topic"].decode() != topic:
        return None
    return Bad(ours["neverstale-reason"].decode(), letter.key, letter.value)


async def _read(stage: Scene, topic: str, count: int) -> list[Any]:
    """All records of a topic with so many partitions; none if there is no such topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.pipe.broker.servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        if topic not in await consumer.topics():
            return []
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[Any] = []
        async with asyncio.timeout(READ_SECONDS):
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    for some in (await consumer.getmany(timeout_ms=200)).values():
                        records += some
        return records
    finally:
        await consumer.stop()


EXPERIMENTS = (
    Experiment(
        number="17",
        fault="truncated, null, unknown and future records in place of changes",
        holds="each is a dead letter, what it may concern is invalidated, the partition moves on",
        run=poison,
        controls={"raise in the handler": LATE, "dead letters are dropped": KEPT},
        short=1,
        long=20,
        long_controls=("raise in the handler",),
    ),
)
