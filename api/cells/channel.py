"""The channel of one cell: a subscription to the node that holds the cell now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from neverstale.api.freshness.redis_identity import tell_identity
from neverstale.api.hits.channel import Channel
from neverstale.redis.nodes import Nodes


class CellChannel(Channel):
    """Hears what is announced of one cell."""

    def __init__(self, nodes: Nodes, *arguments: Any, **options: Any) -> None:
        super().__init__(None, *arguments, **options)
        self._nodes = nodes

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[Any]:
        channel = self._names.announcements
        redis = await self._nodes.subscriber(channel)
        try:
            tell_identity(redis, self._opened)
            async with redis.pubsub() as subscription:
                if self._nodes.publish == "SPUBLISH":
                    await subscription.ssubscribe(channel)
                else:
                    await subscription.subscribe(channel)
                yield subscription
        except BaseException as error:
            self._nodes.failed(error)
            raise
        finally:
            await redis.aclose()
