"""Peers: the other members of the group. One whose process has ended is noticed at once, and not after its session.

Kafka learns of the death of a consumer by its silence, for which most brokers want to wait 6 s at least. The kernel
of its machine knows earlier: it closes the connections of a process that ends, and refuses new ones. So every member
says where it answers HTTP (in what it hands in when it joins; the leader of the rebalance hands all that to all), and
holds a connection to the next few of the others, over which nothing is sent. When one is closed, and another one is
refused there, the process has ended: then the peer is taken out of the group on its behalf, as it would do itself.

Nothing but that is evidence. Where no connection could be made, or where nothing answers any more, as when a machine
is gone or frozen, the session has the last word, as ever. A peer that is taken out by mistake joins again.
Source: Kafka protocol, LeaveGroup; `kafka-consumer-groups.sh --delete` and KIP-345 use it for others, too.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final, NoReturn, TypeAlias

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from neverstale.role import telemetry
from neverstale.role.tasks import start

log = telemetry.logger(__name__)

WATCHED: Final = 3
"""Each member watches so many of the next ones, in the order of their ids."""
OPEN_SECONDS: Final = 2.0
SHORT_SECONDS: Final = 0.1
"""After a connection that did not last so long, we wait so long: it might be closed again and again."""
LOOPBACK: Final = ("127.", "::1", "localhost")

Address: TypeAlias = tuple[str, int]
Ended: TypeAlias = Callable[[], Awaitable[None]]


def where(kafka: AIOKafkaConsumer | None, url: str) -> bytes:
    """What a member tells the others: host, port and the name of its machine as JSON, or nothing. `url`: where it
    answers; if that is on every address, the one by which it talks to Kafka is told."""
    host, _, port = url.rpartition("//")[2].rpartition(":")
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = _own_address(kafka)
    return orjson.dumps([host, int(port), socket.gethostname()]) if host and port.isdigit() else b""


def _own_address(kafka: Any) -> str:
    for connection in list(kafka._client._conns.values()) if kafka is not None else ():
        with contextlib.suppress(AttributeError, TypeError, IndexError):
            return str(connection._writer.get_extra_info("sockname")[0])
    return ""


def reachable(told: object) -> Address | None:
    """Where a member says that it answers, if that can be meant for us."""
    match told:
        case [str(host), int(port), str(machine)] if host and 0 < port < 65536:
            if not host.startswith(LOOPBACK) or machine == socket.gethostname():
                return host, port
    return None


class Peers:
    """Of one client of Kafka."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._met = asyncio.Event()

    def meet(self, told: bytes, mine: str) -> None:
        """Hear of the members of a new generation, by id. `mine`: our own id."""
        with contextlib.suppress(ValueError):
            members: Any = orjson.loads(told or b"{}")
            if isinstance(members, Mapping):
                self._addresses = next_ones(members, mine)
                self._met.set()

    async def watch(self, kafka: AIOKafkaConsumer, group: str) -> NoReturn:
        """Until cancelled."""
        async with asyncio.TaskGroup() as lines:
            held: dict[str, tuple[Address, asyncio.Task[None]]] = {}
            while True:
                await self._met.wait()
                self._met.clear()
                for member, (address, line) in list(held.items()):
                    if self._addresses.get(member) != address:
                        line.cancel()
                        del held[member]
                for member in self._addresses.keys() - held.keys():
                    address = self._addresses[member]
                    ended = _out_of_group(kafka, group, member)
                    held[member] = address, start(lines, _hold(address, ended), f"peer-{member}")


def next_ones(members: Mapping[str, object], mine: str) -> dict[str, Address]:
    """The members that this one watches: those behind it, and then the first ones."""
    order = sorted(name for name in members if isinstance(name, str) and name != mine)
    ring = [name for name in order if name > mine] + [name for name in order if name < mine]
    found = ((name, reachable(members[name])) for name in islice(ring, WATCHED))
    return {name: address for name, address in found if address is not None}


def _out_of_group(kafka: AIOKafkaConsumer, group: str, member: str) -> Ended:
    async def take_out() -> None:
        log.warning("peer_ended", member=member, reason="its process has closed its connections and refuses new ones")
        coordinator = kafka._coordinator
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await coordinator._send_req(LeaveGroupRequest(group, member))
            coordinator.request_rejoin()  # a heartbeat would tell us, too, later

    return take_out


async def _hold(address: Address, ended: Ended) -> None:
    """Hold a connection. Returns when there is nothing more to learn from it: `ended` was called, or nobody knows."""
    loop = asyncio.get_running_loop()
    known = False
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                reader, writer = await asyncio.open_connection(*address)
        except ConnectionRefusedError:
            if known:
                await ended()
            return
        except (OSError, TimeoutError):
            return
        known = True
        try:
            with contextlib.suppress(OSError):
                while await reader.read(4096):
                    pass
        finally:
            writer.close()
        if loop.time() - began < SHORT_SECONDS:
            await asyncio.sleep(SHORT_SECONDS)
