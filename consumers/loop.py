"""The consumer: fetch, apply, commit, for as long as it may live.

While one batch is being applied the next is fetched already, never more: with Redis away a consumer holds two batches
and waits. Kafka's client is thrown away and built anew when it fails.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiokafka.errors import KafkaConnectionError, KafkaError

from consumers.group.member import LAST_COMMIT_SECONDS, Apply, Fetched, Member, membership
from consumers.group.stuck import Stuck
from consumers.records.batch import Batch, Folding
from consumers.replay import Replay
from neverstale.errors import KafkaRefuses
from neverstale.kafka.refusals import at_the_door, refused
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import Patience, pauses
from neverstale.role.seldom import Seldom
from neverstale.role.service import Life
from neverstale.role.tasks import cancelled, start, unless
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

    def __init__(self, settings: Settings, folding: Folding, replay: Replay, apply: Apply, life: Life) -> None:
        self._settings = settings
        self._folding = folding
        self._replay = replay
        self._apply = apply
        self._life = life
        self._rebuilt = Seldom()
        self._patience = Patience()

    async def run(self) -> None:
        """Consume until the role should stop; then what is under way is applied and committed."""
        self._life.health.wrong("kafka", "not joined yet")
        attempts = pauses()
        while not self._life.stop.is_set():
            cancellation.heed()
            failure: BaseException | None = None
            try:
                async with membership(self._settings, self._folding, self._replay, self._life.stop) as member:
                    attempts = pauses()
                    await self._consume(member)
            except* CLIENT_FAILURES as failures:
                failure = failures.exceptions[0]
            if failure is not None and not self._life.stop.is_set():
                self._away(failure)
                telemetry.CONSUMER_RECOVERIES.inc()
                refusal = await self._refusal(failure)
                if times := self._rebuilt.due():
                    log.warning("consumer_built_anew", reason=str(refusal or repr(failure)), times=times)
                pause = self._patience.pause() if refusal else next(attempts)
                await unless(self._life.stop, asyncio.sleep(pause))

    async def _consume(self, member: Member) -> None:
        async with asyncio.TaskGroup() as group:
            beside = (
                start(group, self._commit_often(member), "commit"),
                start(group, self._watch(member), "watch-kafka"),
                start(group, member.until_replaced(), "watch-group"),
            )
            await self._apply_all(member)
            for task in beside:
                task.cancel()
        await member.commit(LAST_COMMIT_SECONDS)

    async def _apply_all(self, member: Member) -> None:
        """Fetch and apply until the role should stop."""
        stop = asyncio.create_task(self._life.stop.wait(), name="stop")
        fetch = asyncio.create_task(member.fetch(), name="fetch")
        try:
            while True:
                cancellation.heed()
                await asyncio.wait((fetch, stop), return_when=asyncio.FIRST_COMPLETED)
                if self._life.stop.is_set():
                    return
                fetched = fetch.result()
                fetch = asyncio.create_task(member.fetch(), name="fetch")
                if fetched is not None:
                    await member.apply(fetched, self._apply_unless_stopping)
                if member.lags:
                    await asyncio.wait((fetch,))
                    await self._go_back(member, fetch.result())
                    fetch = asyncio.create_task(member.fetch(), name="fetch")
        finally:
            # A batch that is dropped here was not committed.
            await cancelled(fetch, stop)

    async def _go_back(self, member: Member, fetched: Fetched | None) -> None:
        """Redis lacks records that come before what was fetched meanwhile."""
        if fetched is not None and not fetched.begins:
            # Not to be dropped: Kafka will not say again that something was lost.
            await member.apply(fetched, self._apply_unless_stopping)
            fetched = None
        first = await member.go_back(fetched)
        if first is not None:
            await member.apply(first, self._apply_unless_stopping)

    async def _apply_unless_stopping(self, batch: Batch, wanted: Callable[[], bool]) -> bool:
        return await self._apply(batch, lambda: wanted() and not self._life.stop.is_set())

    async def _commit_often(self, member: Member) -> None:
        # Longer than one request may take, so that none is left behind alone.
        patience = self._settings.kafka.request_timeout_ms / 1000 + 1
        while True:
            await asyncio.sleep(self._settings.consumer.commit_interval_ms / 1000)
            await member.commit(patience)
            cancellation.heed()

    async def _watch(self, member: Member) -> None:
        """Say whether Kafka is there. `Stuck` if it is and does not deliver: then the client is built anew."""
        asked_at = time.monotonic()
        while True:
            cancellation.heed()
            now = time.monotonic()
            if now - member.heard_at < ASK_SECONDS:
                self._life.health.ok("kafka")
                if now - asked_at < LOOK_SECONDS:
                    await asyncio.sleep(ASK_SECONDS / 2)
                    continue
            asked_at = now
            try:
                await member.ask()
            except Stuck:
                raise
            except CLIENT_FAILURES as error:
                self._away(error)
                await asyncio.sleep(ASK_SECONDS)

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
