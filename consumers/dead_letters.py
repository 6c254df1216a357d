"""Dead letters on their way: unreadable records are in a topic of their own before their offsets are committed.

What they may have spoken of is invalidated before that (`neverstale.consumers.records.doubts`), and the cache does
not wait for this topic. What follows does: while Kafka refuses dead letters the consumer waits, rather late than
lost. Only so many a second are kept, in the mean, so that a bad deployment does not fill one topic with what it wrote
to another; those beyond are counted, and are found where they were for as long as that topic keeps them.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from neverstale.consumers.records.poison import Poison
from neverstale.errors import KafkaRefuses, Outage, Retry
from neverstale.kafka.dead_letters import KEPT_BYTES, PARTITION, Letter, topic_of
from neverstale.kafka.producer import started_producer
from neverstale.kafka.refusals import refused
from neverstale.kafka.topic import ensure_topic
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.role.retry import Patience, Wanted, until_done
from neverstale.role.service import Health
from neverstale.settings import Settings

log = telemetry.logger(__name__)

PART: Final = "dead_letters"
"""A part of readiness, there as soon as there was a first dead letter."""
REMEMBERED: Final = 10_000
"""Records that are read again, because Redis lacks what was beside them, are dead letters once."""


class Allowance:
    """Allows so many a second in the mean, and a burst."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._left, self._at = self._burst, clock()

    def take(self, wanted: int) -> int:
        """How many of those wanted are allowed."""
        now = self._clock()
        self._left, self._at = min(self._burst, self._left + (now - self._at) * self._per_second), now
        taken = min(wanted, int(self._left))
        self._left -= taken
        return taken


class DeadLetters:
    """Keeps the dead letters of one consumer. Speaks to Kafka only when there is something to say."""

    def __init__(self, settings: Settings, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = settings.kafka.topic
        self._kafka = topic_of(settings.kafka)
        self._health = health
        limit = settings.consumer
        self._allowance = Allowance(limit.dead_letters_per_second, limit.dead_letters_burst, clock)
        self._seconds = settings.kafka.request_timeout_ms / 1000
        self._exits = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._known: dict[tuple[int, int, int], None] = {}
        """Partition, offset and timestamp of those that Kafka has, the oldest first."""
        self._complaint, self._news, self._patience = Seldom(), Seldom(), Patience()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._hang_up()

    async def put(self, poison: Sequence[Poison], wanted: Wanted) -> None:
        """Return when Kafka has all that it is to have. Raises `Unwanted` if nobody waits for that any more."""
        new = [each for each in poison if _origin(each) not in self._known]
        if not new:
            return
        allowed = self._allowance.take(len(new))
        letters = [self._letter(each).fitting() for each in new[:allowed]]
        await until_done(partial(self._try, letters), wanted, self._waits)
        self._remember(new[:allowed])
        self._report(new, allowed)

    async def _try(self, letters: Sequence[Letter]) -> None:
        """Send them, over a new connection if anything has failed before. Raises `Outage` or `KafkaRefuses`."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(letters)
        except Retry:
            await self._hang_up()
            raise
        except (KafkaError, OSError, TimeoutError, RuntimeError) as error:
            await self._hang_up()
            raise refused(error, self._kafka, "Write") or Outage("kafka", type(error).__name__) from error
        self._health.ok(PART)

    def _waits(self, error: Retry) -> float | None:
        self._health.wrong(PART, error.reason if isinstance(error, Outage) else str(error))
        if times := self._complaint.due():
            log.error("dead_letters_wait", reason=str(error), topic=self._kafka.topic, times=times)
        return self._patience.pause() if isinstance(error, KafkaRefuses) else None

    async def _send(self, letters: Sequence[Letter]) -> None:
        if self._producer is None and letters:
            topic = await ensure_topic(self._kafka)
            if topic.complaint is not None:
                log.warning("topic_differs", reason=topic.complaint)
            self._producer = await self._exits.enter_async_context(started_producer(self._kafka))
        results = await asyncio.gather(*map(self._send_one, letters), return_exceptions=True)
        for letter, result in zip(letters, results, strict=True):
            if isinstance(result, MessageSizeTooLargeError):
                await self._send_smaller(letter)
            elif isinstance(result, BaseException):
                raise result

    async def _send_one(self, letter: Letter) -> None:
        assert self._producer is not None
        acknowledgement: asyncio.Future[Any] = await self._producer.send(
            self._kafka.topic, letter.value, letter.key, PARTITION, headers=letter.encode_headers()
        )
        # Its end is looked at even if this task gives up on it; asyncio would complain otherwise.
        await asyncio.shield(acknowledgement)

    async def _send_smaller(self, letter: Letter) -> None:
        """The topic takes less than we thought: less than several together, or less than this one."""
        try:
            await self._send_one(letter)
        except MessageSizeTooLargeError:
            await self._send_one(letter.fitting(KEPT_BYTES))

    async def _hang_up(self) -> None:
        exits, self._exits, self._producer = self._exits, AsyncExitStack(), None
        await exits.aclose()

    def _letter(self, poison: Poison) -> Letter:
        record = poison.record
        return Letter(
            poison.reason,
            poison.detail,
            self._source,
            poison.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )

    def _remember(self, poison: Iterable[Poison]) -> None:
        self._known |= dict.fromkeys(map(_origin, poison))
        for origin in list(self._known)[: len(self._known) - REMEMBERED]:
            del self._known[origin]

    def _report(self, poison: Sequence[Poison], allowed: int) -> None:
        for at, each in enumerate(poison):
            telemetry.RECORDS_POISON.labels(each.reason, "kept" if at < allowed else "over_limit").inc()
        if times := self._news.due(len(poison)):
            first = poison[0]
            log.error(
                "records_unreadable",
                times=times,
                reason=first.reason,
                detail=first.detail,
                partition=first.partition,
                offset=first.record.offset,
                kept_in=self._kafka.topic if allowed else None,
                over_limit=len(poison) - allowed,
            )


def _origin(poison: Poison) -> tuple[int, int, int]:
    return poison.partition, poison.record.offset, poison.record.timestamp
