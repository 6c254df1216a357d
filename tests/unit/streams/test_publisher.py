"""The publisher with a producer that acknowledges when it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, OutOfOrderSequenceNumber, TopicAuthorizationFailedError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from neverstale.errors import KafkaRefuses, Outage
from neverstale.settings import Kafka
from neverstale.streams.publisher import Publisher

BATCH_BYTES = 1000


class Producer:
    """Takes batches as aiokafka's producer does."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[bytes], asyncio.Future[None]]] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (records,) = _batches(bytes(batch._build()))
        self.sent.append((partition, [record.value for record in records], future))
        return future

    def acknowledge(self, number: int) -> None:
        self.sent[number][2].set_result(None)

    @property
    def values(self) -> list[tuple[int, list[bytes]]]:
        return [(partition, values) for partition, values, _ in self.sent]


def _batches(data: bytes) -> list[Any]:
    records, found = MemoryRecords(data), []
    while records.has_next():
        found.append(list(records.next_batch()))
    return found


@asynccontextmanager
async def publishing(partitions: int = 2) -> AsyncIterator[tuple[Publisher, Producer, asyncio.Task[Any]]]:
    producer = Producer()
    publisher = Publisher(producer, Kafka(), partitions)
    task = asyncio.create_task(publisher.run())
    yield publisher, producer, task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
        await task


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_record_leaves_at_once_when_flushed() -> None:
    async with publishing() as (publisher, producer, _):
        await turns()  # the lanes wait now
        publisher.put(1, b"key", b"value")
        await turns()
        assert producer.values == []
        publisher.flush()
        await turns()
        assert producer.values == [(1, [b"value"])]


async def test_a_receipt_is_acknowledged_with_the_last_of_its_batches() -> None:
    async with publishing() as (publisher, producer, _):
        publisher.put_everywhere(b"value")
        receipt = publisher.flush()
        await turns()
        producer.acknowledge(0)
        await turns()
        assert not receipt.acknowledged.done()
        producer.acknowledge(1)
        await receipt.acknowledged


async def test_a_receipt_for_nothing_is_acknowledged_already() -> None:
    async with publishing() as (publisher, _, _task):
        assert publisher.flush().acknowledged.done()


async def test_a_receipt_covers_what_was_flushed_before_it() -> None:
    async with publishing() as (publisher, producer, _):
        publisher.put(0, None, b"value")
        publisher.flush()
        await turns()
        receipt = publisher.flush()
        assert not receipt.acknowledged.done()
        producer.acknowledge(0)
        await receipt.acknowledged


async def test_records_gather_behind_a_batch_that_is_under_way_in_order() -> None:
    async with publishing() as (publisher, producer, _):
        for number in range(4):
            publisher.put(0, None, b"%d" % number)
            publisher.flush()
            await turns()
        assert producer.values == [(0, [b"0"])]
        producer.acknowledge(0)
        await turns()
        assert producer.values == [(0, [b"0"]), (0, [b"1", b"2", b"3"])]


async def test_a_full_batch_leaves_without_a_flush_and_the_next_takes_over() -> None:
    async with publishing() as (publisher, producer, _):
        values = [b"%d" % number * 100 for number in range(10)] * 3
        for value in values:
            publisher.put(0, None, value)
        receipt = publisher.flush()
        for number in range(10):
            await turns()
            if number < len(producer.sent):
                producer.acknowledge(number)
        await receipt.acknowledged
        assert [value for _, sent in producer.values for value in sent] == values
        assert len(producer.sent) > 1


async def test_a_record_larger_than_a_batch_travels_alone() -> None:
    async with publishing() as (publisher, producer, _):
        publisher.put(0, None, b"small")
        publisher.put(0, None, b"x" * 3 * BATCH_BYTES)
        publisher.flush()
        await turns()
        producer.acknowledge(0)
        await turns()
        assert [len(values[0]) for _, values in producer.values] == [5, 3 * BATCH_BYTES]


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OutOfOrderSequenceNumber(), Outage),
        (KafkaTimeoutError(), Outage),
        (TopicAuthorizationFailedError("topic"), KafkaRefuses),
    ],
)
async def test_a_batch_that_failed_for_good_ends_the_publisher(error: Exception, ours: type[Exception]) -> None:
    async with publishing() as (publisher, producer, task):
        publisher.put(0, None, b"value")
        receipt = publisher.flush()
        await turns()
        producer.sent[0][2].set_exception(error)
        with pytest.raises(ExceptionGroup) as raised:
            await task
        assert raised.group_contains(ours)
        assert not receipt.acknowledged.done()


async def test_the_oldest_batch_under_way_tells_how_long_kafka_is_silent() -> None:
    async with publishing() as (publisher, producer, _):
        assert publisher.seconds_unacknowledged(1e9) == 0
        publisher.put(0, None, b"value")
        publisher.flush()
        await turns()
        assert publisher.seconds_unacknowledged(1e9) > 0
        producer.acknowledge(0)
        await turns()
        assert publisher.seconds_unacknowledged(1e9) == 0
