"""Dead letters on their way: unreadable records are in a topic of their own before their offsets are committed.

While Kafka refuses them the consumer waits: rather late than lost. Only so many a second are kept, in the mean, so
that a bad deployment does not fill one topic with what it wrote to another; those beyond are counted, and are found
where they were for as long as that topic keeps them. What they may concern is invalidated in any case.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from consumers.records.poison import Poison
from neverstale.errors import KafkaRefuses, Outage
from neverstale.kafka.dead_letters import KEPT_BYTES, PARTITION, Letter, topic_of
from neverstale.kafka.producer import started_producer
from neverstale.kafka.refusals import refused
from neverstale.kafka.topic import ensure_topic
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import Patience, pauses
from neverstale.role.seldom import Seldom
from neverstale.role.service import Health
from neverstale.settings import Settings

log = telemetry.logger(__name__)

PART: Final = "dead_letters"
"""Of readiness; there as soon as there was a first dead letter."""
LOOK_SECONDS: Final = 0.5
REMEMBERED: Final = 10_000
"""Records that are read again, because Redis lacks what was beside them, are dead letters once."""


class Allowance:
    """So many a second in the mean, and a burst."""

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
    """Of one consumer. Speaks to Kafka only when there is something to say."""

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

    async def put(self, poison: Sequence[Poison], wanted: Callable[[], bool]) -> bool:
        """Return when Kafka has all that it is to have. False: no longer `wanted` before that."""
        new = [each for each in poison if _place(each) not in self._known]
        allowed = self._allowance.take(len(new))
        if new and not await self._keep(new[:allowed], wanted):
            return False
        self._report(new, allowed)
        return True

    async def _keep(self, poison: Sequence[Poison], wanted: Callable[[], bool]) -> bool:
        letters = [self._letter(each).fitting() for each in poison]
        for pause in pauses():
            cancellation.heed()
            try:
                async with asyncio.timeout(self._seconds):
                    await self._send(letters)
            except (KafkaError, OSError, TimeoutError, RuntimeError, Outage, KafkaRefuses) as error:
                refusal = error if isinstance(error, KafkaRefuses) else refused(error, self._kafka)
                self._health.wrong(PART, str(refusal) if refusal else type(error).__name__)
                if times := self._complaint.due():
                    log.error(
                        "dead_letters_wait", reason=repr(refusal or error), topic=self._kafka.topic, times=times
                    )
                await self._hang_up()
            else:
                self._health.ok(PART)
                self._remember(poison)
                return True
            if not wanted():
                return False
            await (_pause(self._patience.pause(), wanted) if refusal else asyncio.sleep(pause))
        raise AssertionError("pauses never end")

    async def _send(self, letters: Sequence[Letter]) -> None:
        if self._producer is None and letters:
            await ensure_topic(self._kafka)
            self._producer = await self._exits.enter_async_context(started_producer(self._kafka))
        answers = await asyncio.gather(*map(self._send_one, letters), return_exceptions=True)
        for letter, answer in zip(letters, answers, strict=True):
            if isinstance(answer, MessageSizeTooLargeError):
                await self._send_smaller(letter)
            elif isinstance(answer, BaseException):
                raise answer

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
        self._known |= dict.fromkeys(map(_place, poison))
        for place in list(self._known)[: len(self._known) - REMEMBERED]:
            del self._known[place]

    def _report(self, poison: Sequence[Poison], allowed: int) -> None:
        for at, each in enumerate(poison):
            telemetry.RECORDS_POISON.labels(each.reason, "kept" if at < allowed else "over_limit").inc()
        if poison and (times := self._news.due(len(poison))):
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


async def _pause(seconds: float, wanted: Callable[[], bool]) -> None:
    """Wait so long, but not when nobody wants it any more."""
    for _ in range(math.ceil(seconds / LOOK_SECONDS)):
        if not wanted():
            return
        await asyncio.sleep(min(seconds, LOOK_SECONDS))


def _place(poison: Poison) -> tuple[int, int, int]:
    return poison.partition, poison.record.offset, poison.record.timestamp
