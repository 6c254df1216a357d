"""The producer against a broker that goes away."""

import asyncio
from pathlib import Path
from typing import Any

import aiokafka.client
import pytest

from neverstale.kafka.producer import started_producer
from neverstale.ops.stack.embedded_broker import start_embedded_broker
from neverstale.settings import Kafka

AWAY_SECONDS = 1.0
MOST_ATTEMPTS = 15
"""One every 100 ms, and some that were under way."""


async def test_a_producer_without_a_broker_does_not_ask_for_one_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await start_embedded_broker(tmp_path)
    settings = Kafka.model_validate({"bootstrap_servers": broker.bootstrap_servers, "request_timeout_ms": 10_000})
    connect, attempts = aiokafka.client.create_conn, 0

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await connect(*arguments, **options)

    try:
        async with started_producer(settings) as producer:
            await producer.send_and_wait("producer-test", b"before", partition=0)
            broker.kill()
            monkeypatch.setattr(aiokafka.client, "create_conn", counted)
            known = producer.client.cluster._partitions["producer-test"]
            known[0] = known[0]._replace(leader=-1)  # as a broker says it that is about to stop
            unsent = await producer.send("producer-test", b"after", partition=0)
            await asyncio.sleep(AWAY_SECONDS)
            assert 1 <= attempts <= MOST_ATTEMPTS
            assert not unsent.done()
    finally:
        broker.kill()
