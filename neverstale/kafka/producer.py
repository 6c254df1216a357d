"""An idempotent Kafka producer that starts and stops within a deadline, whatever the brokers do.

aiokafka's `start()` and `stop()` wait for brokers without end (its issue 1101), and a producer that met a fatal
error stays dead (1017). So a producer lives inside `started_producer`, is never mended, and leaves nothing
behind when it is given up. And where a partition has no leader, as while its broker restarts, its sender asks for
metadata again the moment that it was answered, or refused, and fills a core. So there is a pause between.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from neverstale.kafka.refusals import not_let_in
from neverstale.role.tasks import looked_at
from neverstale.servers import kafka_options
from neverstale.settings import Kafka

LARGEST_BATCH_BYTES: Final = 512 * 1024
"""Of one partition in one request; half of what brokers accept as they are shipped."""

RETRY_SECONDS: Final = 0.1

STOP_SECONDS: Final = 1.0


@asynccontextmanager
async def started_producer(settings: Kafka, max_message_bytes: int | None = None) -> AsyncIterator[AIOKafkaProducer]:
    """A connected producer, whose batches are no larger than `max_message_bytes`. `Outage` if no broker answers
    within the request deadline, `KafkaRefuses` if it does not take us."""
    producer = AIOKafkaProducer(
        **kafka_options(settings),
        acks="all",
        enable_idempotence=True,
        # Batches form by themselves while a request is under way; waiting for more would only add to the delay.
        linger_ms=0,
        max_batch_size=batch_bytes(max_message_bytes),
        max_request_size=LARGEST_BATCH_BYTES,
        compression_type=None,
        retry_backoff_ms=int(RETRY_SECONDS * 1000),
        connections_max_idle_ms=540_000,
    )
    _pace(producer)
    try:
        await _start(producer, settings)
        yield producer
    finally:
        await _discard(producer)


def _pace(producer: AIOKafkaProducer) -> None:
    client, loop, earliest = producer.client, asyncio.get_running_loop(), 0.0
    update = client._metadata_update

    async def paced(*asked: object) -> bool:
        nonlocal earliest
        await asyncio.sleep(earliest - loop.time())
        try:
            return bool(await update(*asked))
        finally:
            earliest = loop.time() + RETRY_SECONDS

    client._metadata_update = paced


def batch_bytes(max_message_bytes: int | None) -> int:
    """How large batches are for a topic that takes so much."""
    return LARGEST_BATCH_BYTES if max_message_bytes is None else min(LARGEST_BATCH_BYTES, max_message_bytes)


async def _start(producer: AIOKafkaProducer, settings: Kafka) -> None:
    try:
        async with asyncio.timeout(settings.request_timeout_ms / 1000):
            await producer.start()
            await _admitted(producer)
    except (KafkaError, OSError, TimeoutError) as error:
        raise await not_let_in(error, settings, "Write") from error


async def _admitted(producer: AIOKafkaProducer) -> None:
    """Wait for the id that an idempotent producer asks for first. Where that is refused its sender ends, and whoever
    sends later is told only that it did. Raises `KafkaError`."""
    sender = producer._sender.sender_task
    await asyncio.wait({producer._txn_manager._pid_waiter, sender}, return_when=asyncio.FIRST_COMPLETED)
    if sender.done():
        sender.result()


async def _discard(producer: AIOKafkaProducer) -> None:
    """Stop it; if it does not stop, drop what it still wanted to send and cut its connections."""
    batches = _batches(producer)
    stopping = asyncio.create_task(producer.stop(), name="producer-stop")
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done():
        # Whoever waits for these batches has given up already. Without them, `stop` waits only for requests
        # that are under way, and those end with their connections. All in 0.14: names with an underscore.
        _fail_batches(producer)
        if sender := producer._sender.sender_task:
            sender.remove_done_callback(producer._sender._fail_all)
            sender.cancel()
        await _cut(producer)
        await asyncio.wait({task for task in (stopping, sender) if task}, timeout=STOP_SECONDS)
        stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await _cut(producer)
    for batch in batches:
        for future in (batch.future, batch._drain_waiter, *(future for future, _ in batch._msg_futures)):
            if future.done():
                looked_at(future)


class _Pending(set[Any]):
    """Batches under way. Each leaves when it ends, also one that was to be sent again, which is not among them."""

    def remove(self, batch: Any) -> None:
        self.discard(batch)


def _fail_batches(producer: AIOKafkaProducer) -> None:
    accumulator = producer._message_accumulator
    accumulator._pending_batches = _Pending(accumulator._pending_batches)
    accumulator.fail_all(KafkaError("the producer was given up"))


def _batches(producer: AIOKafkaProducer) -> list[Any]:
    """All that are not acknowledged. Nobody will look at their futures once the producer is given up."""
    accumulator = producer._message_accumulator
    return [*accumulator._pending_batches, *chain.from_iterable(accumulator._batches.values())]


async def _cut(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await producer.client.close()
