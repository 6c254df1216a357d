"""The consumer: fetch, apply, commit, for as long as it may live.

While one batch is being applied the next is fetched already, never more: with Redis away a consumer holds two batches
and waits. Kafka's client is thrown away when it fails, and another one is built.
"""

import asyncio
import contextlib
import time
from typing import Final

from aiokafka.errors import KafkaConnectionError, KafkaError

from neverstale.consumers.group.member import LAST_COMMIT_SECONDS, Consumed, Fetched, Member, membership
from neverstale.consumers.group.stuck import Stuck
from neverstale.errors import KafkaRefuses, Outage, Retry
from neverstale.kafka.refusals import at_the_door, refused
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.role.retry import Patience, Unwanted, Wanted, forever, pauses, until_done
from neverstale.role.service import Life
from neverstale.role.tasks import cancelled, start
from neverstale.settings import Settings

log = telemetry.logger(__name__)

ASK_SECONDS: Final = 1.0
"""Kafka is asked whether it is there when nothing was heard of it for so long."""
LOOK_SECONDS: Final = 2.0
"""And so often whatever is heard: one partition of several may be silent alone."""

CLIENT_FAILURES: Final = (KafkaError, TimeoutError, OSError, RuntimeError)
"""What a broker's death looks like. `RuntimeError` is uvloop's word for writing to a connection that was just
closed, and aiokafka lets it through."""


class ConsumerLoop:
    """One consumer of the topic of changes."""

    def __init__(self, settings: Settings, consumed: Consumed, life: Life) -> None:
        self._settings = settings
        self._consumed = consumed
        self._life = life
        self._rebuilt = Seldom()
        self._pauses = pauses()
        self._patience = Patience()

    async def run(self) -> None:
        """Consume until the role should stop; then what is under way is applied and committed."""
        self._life.health.wrong("kafka", "not joined yet")
        with contextlib.suppress(Unwanted):
            await until_done(self._live_with_one_client, Wanted(self._life.stop), self._waits)

    async def _live_with_one_client(self) -> None:
        """Return when the role should stop. `Outage` or `KafkaRefuses`: this client is of no use any more."""
        failure: BaseException | None = None
        try:
            async with membership(self._settings, self._consumed, self._life.stop) as member:
                self._pauses = pauses()
                await self._consume(member)
        except* CLIENT_FAILURES as failures:
            failure = failures.exceptions[0]
        if failure is not None and not self._life.stop.is_set():
            self._away(failure)
            telemetry.CONSUMER_RECOVERIES.inc()
            raise await self._refusal(failure) or Outage("kafka", repr(failure))

    def _waits(self, error: Retry) -> float:
        if times := self._rebuilt.due():
            log.warning("consumer_built_anew", reason=str(error), times=times)
        return self._patience.pause() if isinstance(error, KafkaRefuses) else next(self._pauses)

    async def _consume(self, member: Member) -> None:
        async with asyncio.TaskGroup() as group:
            beside = (
                start(group, self._commit_often(member), "commit"),
                start(group, self._watch(member), "watch-kafka"),
                start(group, member.until_replaced(), "watch-group"),
                start(group, member.watch_peers(), "watch-peers"),
            )
            await self._apply_all(member)
            for task in beside:
                task.cancel()
        await member.commit(LAST_COMMIT_SECONDS)

    async def _apply_all(self, member: Member) -> None:
        """Fetch and apply until the role should stop."""
        stop = asyncio.create_task(self._life.stop.wait(), name="stop")
        ahead = _fetching(member)

        async def apply_next() -> None:
            nonlocal ahead
            await asyncio.wait((ahead, stop), return_when=asyncio.FIRST_COMPLETED)
            if self._life.stop.is_set():
                raise Unwanted
            fetched, ahead = ahead.result(), _fetching(member)
            if fetched is not None:
                await member.apply(fetched)
            if member.lags:
                await asyncio.wait((ahead,))
                await self._go_back(member, ahead.result())
                ahead = _fetching(member)

        try:
            with contextlib.suppress(Unwanted):
                await forever(apply_next)
        finally:
            # A batch that is dropped here was not committed.
            await cancelled(ahead, stop)

    async def _go_back(self, member: Member, fetched: Fetched | None) -> None:
        """Redis lacks records that come before what was fetched meanwhile."""
        if fetched is not None and not fetched.batch.begins:
            # Not to be dropped: Kafka will not say again that something was lost.
            await member.apply(fetched)
            fetched = None
        first = await member.go_back(fetched)
        if first is not None:
            await member.apply(first)

    async def _commit_often(self, member: Member) -> None:
        # Longer than one request may take, so that none is left behind alone.
        patience = self._settings.kafka.request_timeout_ms / 1000 + 1

        async def commit() -> float:
            await member.commit(patience)
            return self._settings.consumer.commit_interval_ms / 1000

        await forever(commit)

    async def _watch(self, member: Member) -> None:
        """Say whether Kafka is there. `Stuck` if it is and does not deliver: then another client is built."""
        asked_at = time.monotonic()

        async def look() -> float:
            nonlocal asked_at
            now = time.monotonic()
            if now - member.heard_at < ASK_SECONDS:
                self._life.health.ok("kafka")
                if now - asked_at < LOOK_SECONDS - ASK_SECONDS / 4:  # looks come on the tick, or almost
                    return ASK_SECONDS / 2
            asked_at = now
            return await self._ask(member)

        await forever(look)

    async def _ask(self, member: Member) -> float:
        """Seconds after which to look again."""
        try:
            await member.ask()
        except Stuck:
            raise
        except CLIENT_FAILURES as error:
            self._away(error)
            return ASK_SECONDS
        return 0.0

    def _away(self, error: BaseException) -> None:
        if (refusal := refused(error, self._settings.kafka)) is not None:
            self._refuses(refusal)
            return
        telemetry.OUTAGES.labels("kafka").inc()
        self._life.health.wrong("kafka", type(error).__name__)

    async def _refusal(self, error: BaseException) -> KafkaRefuses | None:
        """Whether Kafka refuses us for good, and not just this client."""
        if isinstance(error, KafkaConnectionError) and (refusal := await at_the_door(self._settings.kafka)):
            self._refuses(refusal)
            return refusal
        return refused(error, self._settings.kafka)

    def _refuses(self, refusal: KafkaRefuses) -> None:
        telemetry.KAFKA_REFUSALS.inc()
        self._life.health.wrong("kafka", str(refusal))


def _fetching(member: Member) -> asyncio.Task[Fetched | None]:
    return asyncio.create_task(member.fetch(), name="fetch")
