"""A client of Kafka is closed whatever state it is in."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer

from neverstale.consumers.group import client
from neverstale.settings import Settings


async def test_one_whose_start_was_given_up_is_closed_although_it_does_not_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = AIOKafkaConsumer(**client.options(Settings()))
    monkeypatch.setattr(client, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(kafka, "stop", asyncio.Event().wait)
    await client.close(kafka)
    monkeypatch.undo()
    await kafka.stop()
