"""Dead letters in the operator's hands: list, show, replay, discard.

Replaying is publishing the record once more, byte for byte, where it was. That changes nothing that is right already;
a record that still cannot be read comes back as a new dead letter.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from neverstale.errors import Outage
from neverstale.kafka.dead_letters import PARTITION, Letter
from neverstale.kafka.partitioner import partition_of
from neverstale.kafka.producer import started_producer
from neverstale.ops.dead_letters.settled import LetterPlace, Settled, SettledLetters
from neverstale.servers import kafka_options
from neverstale.settings import Kafka, Settings

SILENT_SECONDS: Final = 10.0
"""Kafka counts as away when it says nothing for so long."""
TOGETHER: Final = 500


@dataclass(frozen=True, slots=True)
class HeldLetter:
    """What the topic of dead letters holds at an offset."""

    place: LetterPlace
    letter: Letter | None
    """`None`: a record that somebody else has put there."""

    @property
    def id(self) -> int:
        return self.place.offset


@dataclass(slots=True)
class Done:
    """What became of the letters that were named."""

    ids: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    """And why."""

    def refuse(self, letter_id: int, why: str | None) -> bool:
        """Note it, unless there is no reason."""
        if why is not None:
            self.refused[letter_id] = why
        return why is not None


Work = Callable[[Sequence[HeldLetter], Done], Awaitable[list[HeldLetter]]]
"""What is done with letters, some at a time; returns those that it was done with."""


@dataclass(frozen=True, slots=True)
class Listing:
    topic: str
    letters: list[HeldLetter]
    more: bool


class LetterShelf:
    """The topic of dead letters, as it was when it was opened: what comes later is not seen."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, first: int, end: int, topics: frozenset[str]) -> None:
        self._consumer = consumer
        self._at = TopicPartition(topic, PARTITION)
        self.topic = topic
        self.first, self.end = first, end
        self.topics = topics
        """That there are."""

    async def read(self, start: int | None = None) -> AsyncGenerator[HeldLetter, None]:
        """All from an offset on."""
        offset = self.first if start is None else start
        if offset >= self.end:
            return
        self._consumer.seek(self._at, offset)
        heard_at = monotonic()
        while (position := await self._consumer.position(self._at)) < self.end:
            fetched = await self._consumer.getmany(self._at, timeout_ms=1000, max_records=TOGETHER)
            if await self._consumer.position(self._at) > position:
                heard_at = monotonic()
            elif monotonic() - heard_at > SILENT_SECONDS:
                raise TimeoutError
            for record in fetched.get(self._at, ()):
                if record.offset < self.end:
                    yield _held(record)

    async def at(self, offset: int) -> HeldLetter | None:
        """`None`: nothing is there."""
        if not self.first <= offset < self.end:
            return None
        async with aclosing(self.read(offset)) as found:
            held = await anext(found, None)
        return held if held is not None and held.id == offset else None


def _held(record: Any) -> HeldLetter:
    place = LetterPlace(record.offset, record.timestamp)
    try:
        return HeldLetter(place, Letter.decode(record))
    except ValueError:
        return HeldLetter(place, None)


@asynccontextmanager
async def opened(kafka: Kafka) -> AsyncIterator[LetterShelf]:
    """Raises `Outage`. A topic that is missing holds nothing."""
    topic = kafka.dead_topic_name
    consumer = AIOKafkaConsumer(**kafka_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        async with _kafka_errors():
            async with asyncio.timeout(SILENT_SECONDS):
                await consumer.start()
                # Asked for by name, it would be made by brokers that do so, and not as declared.
                topics = frozenset(await consumer.topics())
                first = end = 0
                if topic in topics:
                    at = TopicPartition(topic, PARTITION)
                    consumer.assign([at])
                    first = (await consumer.beginning_offsets([at]))[at]
                    end = (await consumer.end_offsets([at]))[at]
            yield LetterShelf(consumer, topic, first, end, topics)
    finally:
        async with asyncio.timeout(SILENT_SECONDS):
            await consumer.stop()


@asynccontextmanager
async def _kafka_errors() -> AsyncIterator[None]:
    # It logs every refused connection of its own; what failed is said once, in the answer.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        yield
    except TimeoutError:
        raise Outage("kafka", f"no answer within {SILENT_SECONDS:g} s") from None
    except KafkaError as error:
        raise Outage("kafka", type(error).__name__) from None


async def listing(settings: Settings, database: str, limit: int) -> Listing:
    """The oldest that are not settled."""
    settled = await SettledLetters(settings, database).load()
    async with opened(settings.kafka) as shelf:
        found: list[HeldLetter] = []
        async with aclosing(shelf.read()) as letters:
            async for held in letters:
                if held.place not in settled:
                    found.append(held)
                if len(found) > limit:
                    break
        return Listing(shelf.topic, found[:limit], len(found) > limit)


async def shown(settings: Settings, letter_id: int) -> HeldLetter | None:
    """Settled ones too, for as long as the topic keeps them."""
    async with opened(settings.kafka) as shelf:
        return await shelf.at(letter_id)


async def replay(settings: Settings, database: str, ids: Sequence[int] | None) -> Done:
    """Publish these records again, or all that are not settled (`None`); then they are."""
    async with opened(settings.kafka) as shelf, started_producer(settings.kafka) as producer:

        async def publish(some: Sequence[HeldLetter], done: Done) -> list[HeldLetter]:
            sound = [held for held in some if not done.refuse(held.id, _why_not(held, shelf))]
            async with asyncio.timeout(SILENT_SECONDS):
                await asyncio.gather(*[_publish(producer, held.letter) for held in sound if held.letter])
            return sound

        return await _settle(shelf, SettledLetters(settings, database), ids, publish)


async def discard(settings: Settings, database: str, ids: Sequence[int] | None) -> Done:
    """Settle these, or all."""

    async def nothing(some: Sequence[HeldLetter], done: Done) -> list[HeldLetter]:
        return list(some)

    async with opened(settings.kafka) as shelf:
        return await _settle(shelf, SettledLetters(settings, database), ids, nothing)


async def _settle(shelf: LetterShelf, noted: SettledLetters, ids: Sequence[int] | None, work: Work) -> Done:
    """Do the work on the letters, and note each that it was done on."""
    done, places = Done(), list[LetterPlace]()
    async with aclosing(_chosen(shelf, await noted.load(), ids, done)) as chosen:
        async for some in chosen:
            worked = await work(some, done)
            done.ids += [held.id for held in worked]
            places += [held.place for held in worked]
    if ids is None and places and not done.refused:
        await noted.add_all(LetterPlace(shelf.end, max(place.at_ms for place in places)))
    elif places:
        await noted.add(places, shelf.first)
    return done


async def _chosen(
    shelf: LetterShelf, settled: Settled, ids: Sequence[int] | None, done: Done
) -> AsyncGenerator[list[HeldLetter], None]:
    some: list[HeldLetter] = []
    for letter_id in dict.fromkeys(ids or ()):
        if (held := await shelf.at(letter_id)) is not None:
            some.append(held)
        else:
            done.refuse(letter_id, f"{shelf.topic} holds no dead letter {letter_id}")
    if ids is None:
        async with aclosing(shelf.read()) as letters:
            async for held in letters:
                if held.place not in settled:
                    some.append(held)
                if len(some) == TOGETHER:
                    yield some
                    some = []
    yield some


def _why_not(held: HeldLetter, shelf: LetterShelf) -> str | None:
    if held.letter is None:
        return "it is no dead letter of ours"
    if held.letter.bytes_cut is not None:
        return f"only the beginning of its {held.letter.bytes_cut} bytes was kept"
    if held.letter.topic not in shelf.topics:
        return f"there is no topic {held.letter.topic}"
    return None


async def _publish(producer: AIOKafkaProducer, letter: Letter) -> None:
    """To the partition where it was; a document's records to that document's, should that be another one by now."""
    count = len(await producer.partitions_for(letter.topic))
    if letter.key is not None:
        partition = partition_of(letter.key, count)
    else:
        partition = letter.partition if letter.partition < count else 0
    try:
        await producer.send_and_wait(letter.topic, letter.value, letter.key, partition, headers=list(letter.headers))
    except KafkaError as error:
        raise Outage("kafka", type(error).__name__) from error
