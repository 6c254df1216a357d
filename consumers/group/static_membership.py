"""Static membership: consumers that stay members of the group, and keep their partitions, over a restart.

With `kafka.group_instance_id` a consumer that stops does not leave the group; if it is back within the session
time-out, nothing is handed over (static membership, KIP-345). Who joins under a name that is taken replaces the one
before. Kafka tells that one so (FENCED_INSTANCE_ID) only where its requests carry the name, and aiokafka's heartbeats
and commits do not (0.14): to it the group has just forgotten it, and it would join again, replace its successor,
be replaced in turn, and so for ever. So whoever was forgotten looks first whether somebody else has its name. That
may also be itself: the group keeps a named member that was too slow to join again, and only its generation is over.
"""

import asyncio
import re
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from neverstale.errors import Stop
from neverstale.servers import kafka_options
from neverstale.settings import Kafka

ASK_SECONDS: Final = 5.0
_MADE_UP: Final = re.compile(r"-([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]{22})")
"""What brokers append to an instance's name to make a member's id: a UUID, in either spelling."""


class Replaced(Stop):
    """Another consumer is the member that we were."""

    def __init__(self, instance: str) -> None:
        super().__init__(
            f"another consumer runs as kafka.group_instance_id {instance!r} and has taken this one's place; "
            "give each consumer a name of its own"
        )


def is_of(member_id: str, instance: str) -> bool:
    """Whether a member of the group has this instance's name."""
    return member_id.startswith(instance) and _MADE_UP.fullmatch(member_id, len(instance)) is not None


async def is_taken(kafka: Kafka, instance: str, ours: str) -> bool:
    """Whether the group has a member with this instance's name whose id is not `ours`. Raises `KafkaError` or
    `TimeoutError`."""
    admin = AIOKafkaAdminClient(**kafka_options(kafka))
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await admin.start()
            responses = await admin.describe_consumer_groups([kafka.group])
    finally:
        await admin.close()
    members = [member[0] for response in responses for group in response.groups for member in group[5]]
    return any(is_of(member_id, instance) and member_id != ours for member_id in members)
