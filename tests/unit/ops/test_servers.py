"""Clients that ask servers are closed, however far they came."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer

from neverstale.ops.servers import kafka_consumer
from neverstale.settings import Kafka


async def test_a_consumer_whose_start_is_cut_off_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[AIOKafkaConsumer] = []

    async def start(consumer: AIOKafkaConsumer) -> None:
        begun.append(consumer)
        await asyncio.Future()

    async def use() -> None:
        async with kafka_consumer(Kafka()):
            raise AssertionError("it has not started")

    monkeypatch.setattr(AIOKafkaConsumer, "start", start)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await use()
    assert [consumer._closed for consumer in begun] == [True]
