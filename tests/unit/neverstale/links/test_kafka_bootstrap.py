"""A start of a client of Kafka that is given up leaves no connection open."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from neverstale.links import kafka_bootstrap
from neverstale.servers import kafka_options
from neverstale.settings import Kafka


class Dumb:
    """A connection whose other side never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.closed = False

    async def send(self, request: object) -> object:
        self.asked.set()
        return await asyncio.Future()

    def close(self) -> None:
        self.closed = True


async def given_up(bootstrap: Callable[[Any], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> Dumb:
    """The connection that was opened by then."""
    connection, options = Dumb(), kafka_options(Kafka())

    async def create(*where: object, **how: object) -> Dumb:
        return connection

    monkeypatch.setattr(kafka_bootstrap, "_CREATE", create)
    client = AIOKafkaClient(**options)
    starting = asyncio.ensure_future(bootstrap(client))
    await connection.asked.wait()
    starting.cancel()
    await asyncio.wait({starting})
    return connection


async def test_a_start_that_is_given_up_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await given_up(kafka_bootstrap.bootstrap, monkeypatch)).closed


async def test_the_library_itself_still_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not (await given_up(kafka_bootstrap._BOOTSTRAP, monkeypatch)).closed, "the mending can go"
