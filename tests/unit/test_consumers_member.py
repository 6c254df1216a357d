"""A member of the group, with a client of Kafka that behaves as aiokafka does in bad moments."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from consumers import member
from consumers.batch import Folding
from consumers.replay import Replay
from neverstale.cache import Cache
from neverstale.keys import Names
from neverstale.service import Health
from neverstale.settings import Settings
from tests.unit.test_consumers_batch import CATALOG


class Coordinator:
    _coordination_task = _heartbeat_task = None

    async def close(self) -> None:
        pass


class SelfCancelling:
    """Passes the cancellation of a task of its own on to its caller, as `AIOKafkaConsumer.stop` does."""

    _fetcher = _client = None

    def __init__(self, **options: Any) -> None:
        self.stopped = 0
        self._coordinator = Coordinator()

    def subscribe(self, topics: list[str], listener: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped += 1
        await self.getmany()

    async def getmany(self, **options: Any) -> dict[Any, Any]:
        own = asyncio.create_task(asyncio.sleep(60))
        own.cancel()
        await own
        return {}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> SelfCancelling:
    client = SelfCancelling()
    monkeypatch.setattr(member, "AIOKafkaConsumer", lambda **options: client)
    return client


def membership() -> Any:
    replay = Replay(Cache.__new__(Cache), "group", CATALOG.collections, Health())
    return member.membership(Settings(), Folding(CATALOG, Names("ns")), replay, asyncio.Event())


async def test_a_client_that_cancels_a_task_of_its_own_while_it_closes_does_not_end_the_consumer(
    client: SelfCancelling,
) -> None:
    async with membership():
        pass
    assert client.stopped == 1


async def test_a_client_that_cancels_its_own_fetch_has_failed(client: SelfCancelling) -> None:
    async with membership() as made:
        with pytest.raises(KafkaError):
            await made.fetch()


async def test_a_cancellation_that_is_meant_for_us_is_none_of_the_clients(client: SelfCancelling) -> None:
    async def consume() -> None:
        async with membership():
            await asyncio.sleep(60)

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.stopped == 1
