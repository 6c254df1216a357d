"""Looks twice a second whether MongoDB and Kafka still answer, tells health, and gives up on them in the end.

Neither client can be trusted with this: a `getMore` on a dead connection waits for ever, and an idempotent
producer sends again for ever.
"""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal, NoReturn

from aiokafka.errors import KafkaError

from neverstale.errors import Outage, Retry
from neverstale.role.retry import forever
from neverstale.role.service import Health
from neverstale.streams.cursor import StreamCursor
from neverstale.streams.publisher import Publisher

LOOK_SECONDS: Final = 0.5
TOPIC_SECONDS: Final = 1.0
SLOW_SECONDS: Final = 2.0
"""A server that is silent for longer is reported as away."""


class TopicChanged(Retry):
    """The topic has another number of partitions now, so keys belong elsewhere; or it is another topic."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Gives up on a server, or on the topic, that the clients would wait for without end."""

    health: Health
    cursor: StreamCursor
    publisher: Publisher
    cursor_patience_seconds: float
    publisher_patience_seconds: float

    async def run(self) -> NoReturn:
        """Look until cancelled.

        Raises:
            Outage: a request was not answered, or a batch not acknowledged, for longer than the patience.
            TopicChanged: open again, with the new number.
        """
        looked_at, is_there = float("-inf"), True

        async def look() -> float:
            nonlocal looked_at, is_there
            now = monotonic()
            if now - looked_at > TOPIC_SECONDS - LOOK_SECONDS / 2:  # looks come on the tick, or almost
                looked_at = now
                is_there = await self._check_topic(is_there)
            self._check("mongodb", self.cursor.seconds_overdue(now), self.cursor_patience_seconds)
            self._check("kafka", self.publisher.seconds_unacknowledged(now), self.publisher_patience_seconds)
            if (known := self.publisher.known_partitions()) != self.publisher.partitions:
                raise TopicChanged(f"the topic has {known} partitions instead of {self.publisher.partitions}")
            return LOOK_SECONDS

        await forever(look)

    async def _check_topic(self, was_there: bool) -> bool:
        """Whether the topic is there. Deleted and made again at once, it takes what we send as if nothing had
        happened; only deleted, it lets us wait until the producer gives up. A broker that has just started may not
        know yet what there is, so what is missing is looked for twice."""
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                known = await self.publisher.known_topic_id()
        except (KafkaError, TimeoutError):
            return was_there
        if self.publisher.topic_id in (None, known):
            return True
        if known is not None:
            raise TopicChanged(f"the topic has the id {known} instead of {self.publisher.topic_id}")
        if not was_there:
            raise TopicChanged("the topic is no longer there")
        return False

    def _check(self, server: Literal["mongodb", "kafka"], silent: float, patience: float) -> None:
        if silent > patience:
            raise Outage(server, f"silent for {silent:.1f} s")
        if silent > SLOW_SECONDS:
            self.health.wrong(server, f"silent for {silent:.1f} s")
        else:
            self.health.ok(server)
