"""Nodes: which server holds a cell, and the way to it.

Everything that is sent for one cell goes to one server, in one piece and in order, so a cell's replies and the name
of the server that gave them (`INFO`) belong together. Where there is only one server, it holds all cells.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from neverstale.redis.cluster import ClusterNodes
from neverstale.redis.commands import Command, RoundTrip, pipelined
from neverstale.redis.wire import Vouched, Wire, whoever
from neverstale.servers import redis_client
from neverstale.settings import RedisSettings
from neverstale.settings.redis_url import cluster_of


class Nodes(Protocol):
    """The servers of one Redis, or Redis Cluster."""

    @property
    def publish(self) -> str:
        """The command that publishes on a cell's channel: to the subscribers of the node that holds the cell."""

    def to_cell(self, name: bytes, lane: str, vouched: Vouched = whoever, *, corrects: bool = False) -> RoundTrip:
        """The way to the cell that has this name among its own. Ways of one lane share a connection to each server.

        `corrects`: what is sent corrects the cell, and waits while its slot is being moved.
        """

    def wire_to(self, name: bytes, lane: str) -> Wire | None:
        """The connection of a lane to the server that holds a cell, as far as is known: what is asked of several
        cells of one server may leave together. `None`: unknown."""

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands together to whoever holds the keys of the first one; a `RoundTrip`."""

    async def subscriber(self, name: bytes) -> Redis:
        """A client for one subscription to a cell's channel, to the node that holds the cell now; who asks closes
        it."""

    def failed(self, error: BaseException) -> None:
        """A subscription, or a wire, has failed: perhaps the node does not hold the cell any more."""

    async def aclose(self) -> None:
        """Closes all connections."""


class OneServer:
    """One server, or the master that sentinels name. `client` opens connections with a deadline for replies,
    `subscribing` those for subscriptions."""

    publish: Final = "PUBLISH"

    def __init__(self, client: Redis, subscribing: Callable[[], Redis] | None = None) -> None:
        self._client = client
        self._subscribing = subscribing
        self._wires: dict[str, Wire] = {}

    def to_cell(self, name: bytes, lane: str, vouched: Vouched = whoever, *, corrects: bool = False) -> RoundTrip:
        wire = self.wire_to(name, lane)

        async def exchange(commands: Sequence[Command]) -> list[Any]:
            return await wire.exchange_with(commands, vouched)

        return exchange

    def wire_to(self, name: bytes, lane: str) -> Wire:
        wire = self._wires.get(lane)
        if wire is None:
            wire = self._wires[lane] = Wire(self._client)
        return wire

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        return await pipelined(self._client, commands)

    async def subscriber(self, name: bytes) -> Redis:
        assert self._subscribing is not None
        return self._subscribing()

    def failed(self, error: BaseException) -> None:
        """There is no other server."""

    async def aclose(self) -> None:
        for wire in self._wires.values():
            wire.close()
        await self._client.aclose()


def nodes_of(settings: RedisSettings, *, timeout_ms: int) -> Nodes:
    """The servers that the URL names. Belongs to the event loop in which it is first used."""
    if (cluster := cluster_of(settings.url.get_secret_value())) is not None:
        return ClusterNodes(cluster.addresses, lambda node: redis_client(settings, timeout_ms=timeout_ms, node=node))
    return OneServer(
        redis_client(settings, timeout_ms=timeout_ms), lambda: redis_client(settings, timeout_ms=timeout_ms)
    )
