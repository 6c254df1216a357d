"""The client of Kafka: how a consumer's is set up, and how it is closed whatever state it is in."""

import asyncio
import contextlib
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from neverstale.role import cancellation, telemetry
from neverstale.servers import kafka_options
from neverstale.settings import Settings

log = telemetry.logger(__name__)

CLOSE_SECONDS: Final = 2.0
DAY_MS: Final = 86_400_000
FETCH_BYTES: Final = 8 << 20
"""Of all partitions together; it bounds a consumer's memory."""
PARTITION_FETCH_BYTES: Final = 1 << 20


def options(settings: Settings) -> dict[str, Any]:
    """What `AIOKafkaConsumer` is given."""
    kafka = settings.kafka
    return kafka_options(kafka) | {
        "group_id": kafka.group,
        "group_instance_id": kafka.group_instance_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "session_timeout_ms": kafka.session_timeout_ms,
        # Members learn of a rebalance by their heartbeats; the slowest holds up all.
        "heartbeat_interval_ms": max(100, min(1000, kafka.session_timeout_ms // 20)),
        # Shorter than the request's own deadline, or a slow member would make the others lose their coordinator.
        "rebalance_timeout_ms": max(1000, kafka.request_timeout_ms - 2000),
        # While Redis is away nothing is fetched, for as long as that takes; leaving the group would not help.
        "max_poll_interval_ms": DAY_MS,
        "fetch_min_bytes": 1,
        "fetch_max_wait_ms": kafka.fetch_max_wait_ms,
        "fetch_max_bytes": FETCH_BYTES,
        "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
    }


async def close(kafka: AIOKafkaConsumer) -> None:
    """Leave the group and close every connection, whatever state the client is in. aiokafka lets a named member
    stay, in order that its partitions wait for it; but others can have them at once."""
    if kafka._coordinator is not None:
        kafka._coordinator._group_instance_id = None
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await kafka.stop()
    except (Exception, asyncio.CancelledError) as error:
        # `stop` waits for brokers that may be gone, part by part; what it did not reach is closed here. It also
        # cancels tasks of its own, and where one was waiting to fetch again, that comes out here as if we were meant.
        cancellation.heed()
        log.warning("left_without_goodbye", reason=repr(error))
        let_go(kafka)
        for part in (kafka._coordinator, kafka._fetcher, kafka._client):
            if part is not None:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    async with asyncio.timeout(CLOSE_SECONDS / 3):
                        await part.close()
        cancellation.heed()


def let_go(kafka: AIOKafkaConsumer) -> None:
    """Neither join nor stay in the group: what goes on by itself would hold partitions that nobody reads."""
    if kafka._coordinator is None:
        return  # its start was given up before it asked for one
    for task in (kafka._coordinator._coordination_task, kafka._coordinator._heartbeat_task):
        if task is not None:
            task.cancel()
