"""The nodes of a Redis Cluster: what one of them tells of all, and what each tells of itself."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot

from neverstale.errors import Outage
from neverstale.ops import servers
from neverstale.ops.servers import RedisFacts, redis_facts
from neverstale.settings import RedisSettings
from neverstale.settings.redis_url import Address, cluster_of

SLOTS: Final = 16_384
_UNUSABLE: Final = frozenset(("noaddr", "handshake"))
"""Nodes that nobody has spoken with yet, or of which nobody knows where they are."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node, as another one sees it."""

    id: str
    address: Address
    is_master: bool
    follows: str
    """The id of its master; empty: it is one."""
    fails: bool
    """A majority of the masters has given it up."""
    ranges: tuple[tuple[int, int], ...]
    """The slots that it holds, first and last."""

    @property
    def name(self) -> str:
        return f"{self.address.host}:{self.address.port}"

    @property
    def slots(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What one node says of the cluster."""

    asked: Address
    state: str
    """`ok`, or `fail`: it refuses everything."""
    nodes: tuple[ClusterNode, ...]

    @property
    def uncovered(self) -> int:
        """Slots that no node holds."""
        return SLOTS - sum(one.slots for one in self.nodes if one.is_master)

    def holder(self, name: bytes) -> str:
        """The node that holds a key; empty: none does."""
        slot = key_slot(name)
        found = (one.name for one in self.nodes if any(first <= slot <= last for first, last in one.ranges))
        return next(found, "")

    def replicas_of(self, master: ClusterNode) -> list[ClusterNode]:
        return [one for one in self.nodes if one.follows == master.id]


async def cluster_view(settings: RedisSettings) -> ClusterView | None:
    """By the first node of the URL that answers; `None`: it is no cluster. Raises `Outage` if none does."""
    cluster = cluster_of(settings.url.get_secret_value())
    if cluster is None:
        return None
    away: list[Outage] = []
    for address in cluster.addresses:
        try:
            async with servers.redis(settings, node=address) as client:
                return await seen_from(client, address)
        except Outage as outage:
            away.append(outage)
    raise away[0]


async def seen_from(client: Redis, address: Address) -> ClusterView:
    """What the node at this address says. In bytes, so that the client leaves the replies as they are."""
    told: Any = client
    nodes = _lines(await told.execute_command(b"CLUSTER", b"NODES"))
    info = _lines(await told.execute_command(b"CLUSTER", b"INFO"))
    state = next((line.partition(":")[2] for line in info if line.startswith("cluster_state:")), "")
    return ClusterView(address, state.strip(), tuple(_nodes(nodes, address)))


def _lines(reply: Any) -> list[str]:
    text: str = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    return text.splitlines()


def _nodes(lines: Iterable[str], asked: Address) -> Iterator[ClusterNode]:
    for line in lines:
        id, where, flags, follows, _, _, _, _, *slots = line.split()
        said = frozenset(flags.split(","))
        if said & _UNUSABLE:
            continue
        # A node that does not know its own name is where it was asked.
        host, _, port = where.partition("@")[0].rpartition(":")
        address = Address(host.strip("[]") or asked.host, int(port))
        master = "master" in said
        ranges = tuple(_range(one) for one in slots if not one.startswith("["))  # in brackets: one that is moved
        yield ClusterNode(id, address, master, "" if master else follows, "fail" in said, ranges)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node of a cluster tells of itself."""

    node: str
    """`host:port`."""
    role: str
    """`master` or `replica`."""
    slots: int
    version: str | None
    used_bytes: int | None
    problem: str | None
    """Why it cannot be used; `None`: it answers."""


async def ask_nodes(settings: RedisSettings, nodes: Sequence[ClusterNode]) -> list[NodeStatus]:
    """Each by itself: one that is away hides none of the others."""
    found = await asyncio.gather(*(_facts(settings, one.address) for one in nodes))
    return [_status(one, told) for one, told in zip(nodes, found, strict=True)]


async def _facts(settings: RedisSettings, address: Address) -> RedisFacts | str:
    try:
        async with servers.redis(settings, node=address) as client:
            return await redis_facts(client)
    except Outage as outage:
        return outage.reason


def _status(node: ClusterNode, told: RedisFacts | str) -> NodeStatus:
    role = "master" if node.is_master else "replica"
    if isinstance(told, str):
        return NodeStatus(node.name, role, node.slots, None, None, told)
    return NodeStatus(node.name, role, node.slots, told.version, told.used_bytes, None)
