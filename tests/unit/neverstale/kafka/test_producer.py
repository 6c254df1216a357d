"""What a producer still wanted to send when it is given up ends without a word, wherever it was on its way."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.structs import TopicPartition

from neverstale.kafka.producer import _fail_batches

PARTITION = TopicPartition("changes", 0)


@pytest.mark.parametrize("way", ["not sent", "sent", "to be sent again", "to be sent again a moment later"])
async def test_batches_end_wherever_they_are(way: str) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(str(told["message"])))
    accumulator = MessageAccumulator(None, 1_000, 0, 30)
    future: Any = await accumulator.add_message(PARTITION, b"key", b"value", timeout=1)
    batch = None if way == "not sent" else accumulator._pop_batch(PARTITION)
    if way == "to be sent again":
        accumulator.reenqueue(batch)
    _fail_batches(SimpleNamespace(_message_accumulator=accumulator))
    if way == "to be sent again a moment later":
        accumulator.reenqueue(batch)
    with pytest.raises(KafkaError, match="given up"):
        await future
    await asyncio.sleep(0)
    assert not complaints
