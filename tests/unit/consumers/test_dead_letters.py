"""Dead letters on their way: which are kept, and what happens when Kafka refuses them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from neverstale.consumers import dead_letters as module
from neverstale.consumers.dead_letters import PART, REMEMBERED, Allowance, DeadLetters
from neverstale.consumers.records.poison import NOTHING, Poison
from neverstale.kafka.dead_letters import Letter
from neverstale.kafka.topic import Topic
from neverstale.role import telemetry
from neverstale.role.retry import Unwanted, Wanted
from neverstale.role.service import Health
from neverstale.settings import Kafka, Settings
from tests.unit.consumers.records.test_batch import Record


class Broker:
    """Takes letters, or fails as often as it is told."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.failures = 0
        self.largest = 1 << 30
        self.connections = 0

    async def ensure_topic(self, kafka: Kafka) -> Topic:
        self.topic = kafka.topic
        return Topic(kafka.topic, 1, created=False, complaint=None)

    @asynccontextmanager
    async def started_producer(self, _: Kafka) -> AsyncIterator["Broker"]:
        self.connections += 1
        yield self

    async def send(self, topic: str, value: Any, key: Any, partition: int, headers: Any) -> asyncio.Future[None]:
        assert (topic, partition) == (self.topic, 0)
        future = asyncio.get_running_loop().create_future()
        if self.failures:
            self.failures -= 1
            future.set_exception(KafkaError("not now"))
        elif len(value or b"") > self.largest:
            future.set_exception(MessageSizeTooLargeError())
        else:
            self.letters.append(Letter.decode(Record(0, key, value, headers=headers)))
            future.set_result(None)
        return future


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(module, "ensure_topic", broker.ensure_topic)
    monkeypatch.setattr(module, "started_producer", broker.started_producer)
    return broker


def poison(*offsets: int, value: bytes = b"{") -> list[Poison]:
    return [Poison(2, Record(offset, b"k", value, 77), "undecodable", "no JSON", NOTHING) for offset in offsets]


def dead_letters(health: Health | None = None, **consumer: Any) -> DeadLetters:
    settings = Settings.model_validate({"kafka": {"topic": "changes"}, "consumer": consumer})
    return DeadLetters(settings, health or Health(), lambda: 0.0)


def counted(outcome: str) -> float:
    return float(telemetry.RECORDS_POISON.labels("undecodable", outcome)._value.get())


async def test_a_letter_has_the_record_its_reason_and_where_it_was(broker: Broker) -> None:
    async with dead_letters() as letters:
        await letters.put(poison(41), Wanted())
    assert broker.topic == "changes.dead"
    assert broker.letters == [Letter("undecodable", "no JSON", "changes", 2, 41, 77, b"k", b"{")]


async def test_kafka_is_not_spoken_to_without_need(broker: Broker) -> None:
    health = Health()
    async with dead_letters(health) as letters:
        await letters.put([], Wanted())
    assert (broker.connections, health.parts) == (0, {})


async def test_what_kafka_refuses_is_offered_again_until_it_takes_it(broker: Broker) -> None:
    broker.failures, health = 2, Health()
    seen: list[str | None] = []

    class Watching(Wanted):
        async def pause(self, seconds: float) -> None:
            seen.append(health.parts[PART])

    async with dead_letters(health) as letters:
        await letters.put(poison(1), Watching())
    assert [letter.offset for letter in broker.letters] == [1]
    assert seen == ["KafkaError", "KafkaError"] and health.parts == {PART: None}
    assert broker.connections == 3


async def test_what_is_not_wanted_any_more_is_not_said_to_be_kept(broker: Broker) -> None:
    broker.failures, before = 99, counted("kept")
    nobody = Wanted()
    nobody.end()
    async with dead_letters() as letters:
        with pytest.raises(Unwanted):
            await letters.put(poison(1), nobody)
    assert counted("kept") == before


async def test_beyond_the_limit_records_are_counted_and_not_kept(broker: Broker) -> None:
    before = counted("over_limit")
    async with dead_letters(dead_letters_burst=3) as letters:
        await letters.put(poison(1, 2), Wanted())
        await letters.put(poison(3, 4, 5), Wanted())
        await letters.put(poison(6), Wanted())
    assert [letter.offset for letter in broker.letters] == [1, 2, 3]
    assert counted("over_limit") == before + 3


async def test_a_record_that_is_read_again_is_kept_once(broker: Broker) -> None:
    async with dead_letters(dead_letters_burst=2) as letters:
        await letters.put(poison(1), Wanted())
        await letters.put(poison(1, 2), Wanted())
    assert [letter.offset for letter in broker.letters] == [1, 2]


async def test_only_so_many_are_remembered(broker: Broker) -> None:
    async with dead_letters(dead_letters_burst=2 * REMEMBERED) as letters:
        await letters.put(poison(*range(REMEMBERED + 1)), Wanted())
        await letters.put(poison(0, 1), Wanted())
    assert [letter.offset for letter in broker.letters[REMEMBERED:]] == [REMEMBERED, 0]


async def test_of_what_the_topic_refuses_as_too_large_the_beginning_is_kept(broker: Broker) -> None:
    broker.largest = 10_000
    async with dead_letters() as letters:
        await letters.put([*poison(1), *poison(2, value=b"x" * 20_000)], Wanted())
    assert [(letter.offset, letter.bytes_cut) for letter in broker.letters] == [(1, None), (2, 20_001)]


@pytest.mark.parametrize(("wanted", "allowed"), [((4, 4), (4, 1)), ((9, 9), (5, 0))])
def test_a_burst_is_allowed_and_then_nothing(wanted: tuple[int, ...], allowed: tuple[int, ...]) -> None:
    allowance = Allowance(2, 5, lambda: 0.0)
    assert tuple(map(allowance.take, wanted)) == allowed


def test_the_allowance_comes_back_with_the_time_and_never_exceeds_the_burst() -> None:
    now = 0.0
    allowance = Allowance(2, 5, lambda: now)
    taken: Callable[[], int] = lambda: allowance.take(99)  # noqa: E731
    assert taken() == 5
    now = 1.5
    assert taken() == 3
    now = 100.0
    assert taken() == 5
