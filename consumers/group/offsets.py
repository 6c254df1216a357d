"""Offsets: how far the partitions of one member are applied, and how much of that is committed."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from neverstale.role import telemetry


class Offsets:
    """Knows how far the partitions of one topic are applied. What is not
    committed comes again, and applying it again changes nothing. With each offset the group is told who has
    committed it, for whoever asks (`neverstale why`, `doctor`)."""

    def __init__(self, topic: str, by: str) -> None:
        self._topic = topic
        self._by = by
        self._applied: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def applied(self, offsets: Mapping[int, int]) -> None:
        """Partition -> offset to go on at: everything before it is applied."""
        self._applied.update(offsets)

    def forget(self) -> None:
        """The partitions are not ours any more."""
        # New ones, so that a commit under way does not write into what comes next.
        self._applied, self._committed = {}, {}

    async def commit(self, kafka: AIOKafkaConsumer, seconds: float) -> None:
        """Commit what is applied and still assigned, within so many seconds: aiokafka would try for as long as the
        group's coordinator is away. A failure is no matter: it is due again the next time."""
        assigned, committed = kafka.assignment(), self._committed
        due = {
            partition: offset
            for partition, offset in self._applied.items()
            if offset != committed.get(partition) and TopicPartition(self._topic, partition) in assigned
        }
        if not due:
            return
        try:
            async with asyncio.timeout(seconds):
                await kafka.commit(
                    {TopicPartition(self._topic, number): (offset, self._by) for number, offset in due.items()}
                )
        except (KafkaError, TimeoutError, RuntimeError):  # the last: see `neverstale.consumers.loop.CLIENT_FAILURES`
            telemetry.COMMITS.labels("failed").inc()
        else:
            telemetry.COMMITS.labels("done").inc()
            committed.update(due)
