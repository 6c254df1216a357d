"""A Redis Cluster: which node holds which slot, and what to do when that has changed.

A node that does not hold a slot any more says who does (`MOVED`), and is believed: what was sent is sent again there,
for every step of ours may run twice. While a slot is being moved, its keys are on two nodes. A node then sends
whoever asks for a key that it does not have to the other one (`ASK`), or has him come again (`TRYAGAIN`). Readers
follow; what corrects the cell waits until the slot has arrived. Otherwise the other node could lose a correction, in
a failover, and the account of the cell, which had not been moved yet, would not know of that.

Everything else that is no answer is an outage, of the cells of that node alone.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as Disconnected

from neverstale.links.redis_refusals import is_of_rights
from neverstale.redis.commands import Command, RoundTrip
from neverstale.redis.wire import Vouched, Wire, whoever
from neverstale.role import telemetry
from neverstale.role.tasks import looked_at
from neverstale.settings.redis_url import Address

log = telemetry.logger(__name__)

ATTEMPTS: Final = 4
"""A slot that has moved so often in one moment is nowhere."""
APART_SECONDS: Final = 0.2
"""The nodes are asked no more often who holds what."""
LANE: Final = "commands"
_EVERYWHERE: Final = ("SCRIPT",)
_KEYLESS: Final = ("INFO", "PING", "SCRIPT", "SCAN", "CLUSTER")


class ClusterNodes:
    """See `neverstale.redis.nodes.Nodes`. `seeds`: some nodes; `open_client` makes a client of one."""

    publish: Final = "SPUBLISH"

    def __init__(self, seeds: Sequence[Address], open_client: Callable[[Address], Redis]) -> None:
        self._seeds = tuple(seeds)
        self._open_client = open_client
        self._clients: dict[Address, Redis] = {}
        self._wires: dict[tuple[Address, str], Wire] = {}
        self._owners: dict[int, Address] = {}
        """Slot -> the node that holds it, as far as we know."""
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")

    # --- the ways

    def to_cell(self, name: bytes, lane: str, vouched: Vouched = whoever, *, corrects: bool = False) -> RoundTrip:
        slot = key_slot(name)

        async def exchange(commands: Sequence[Command]) -> list[Any]:
            return await self._exchange(slot, lane, vouched, commands, corrects=corrects)

        return exchange

    def wire_to(self, name: bytes, lane: str) -> Wire | None:
        node = self._owners.get(_slot_of_name(name))
        return None if node is None else self._wire(node, lane)

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        slots = [_slot_of(command) for command in commands]
        known = next((slot for slot in slots if slot is not None), None)
        if known is None and any(command[0] in _EVERYWHERE for command in commands):
            return await self._send_everywhere(commands)
        places: dict[int, list[int]] = {}
        for at, slot in enumerate(slots):
            places.setdefault(slot if slot is not None else known or 0, []).append(at)
        found = await asyncio.gather(
            *(self._exchange(slot, LANE, whoever, [commands[at] for at in some]) for slot, some in places.items())
        )
        replies: list[Any] = [None] * len(commands)
        for some, answers in zip(places.values(), found, strict=True):
            for at, answer in zip(some, answers, strict=True):
                replies[at] = answer
        return replies

    async def _send_everywhere(self, commands: Sequence[Command]) -> list[Any]:
        await self._owner(0)
        nodes = list(dict.fromkeys(self._owners.values()))
        found = await asyncio.gather(
            *(self._wire(node, LANE).exchange(commands) for node in nodes), return_exceptions=True
        )
        answers = [one for one in found if not isinstance(one, BaseException)]
        if not answers:
            raise Disconnected("no node answers")
        # Each node has users of its own: one of them may have been forgotten.
        return next((each for each in answers if any(map(is_of_rights, _errors(each)))), answers[0])

    async def subscriber(self, name: bytes) -> Redis:
        return self._open_client(await self._owner(key_slot(name)))

    def failed(self, error: BaseException) -> None:
        if isinstance(error, (RedisError, OSError, TimeoutError)):
            self._look_soon()

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        for wire in self._wires.values():
            wire.close()
        for client in self._clients.values():
            await client.aclose()

    async def _exchange(
        self, slot: int, lane: str, vouched: Vouched, commands: Sequence[Command], *, corrects: bool = False
    ) -> list[Any]:
        for _ in range(ATTEMPTS):
            node = self._owners.get(slot) or await self._owner(slot)
            try:
                replies = await self._wire(node, lane).exchange_with(commands, vouched)
            except (RedisError, OSError):
                self._look_soon()
                raise
            moved = _first(replies, MovedError)
            if moved is None:
                break
            self._owners[slot] = Address(moved.host or node.host, moved.port)
            self._look_soon()
        if _first(replies, ClusterDownError) is not None:
            self._look_soon()
        if corrects or moved is not None or _first(replies, AskError) is None:
            return replies
        return await self._ask_others(node, lane, commands, replies)

    async def _ask_others(
        self, node: Address, lane: str, commands: Sequence[Command], replies: list[Any]
    ) -> list[Any]:
        """Keys that have gone ahead are asked for where they are."""
        for at, reply in enumerate(replies):
            if isinstance(reply, AskError):
                other = Address(reply.host or node.host, reply.port)
                _, replies[at] = await self._wire(other, lane).exchange([("ASKING",), commands[at]])
        return replies

    def _wire(self, node: Address, lane: str) -> Wire:
        wire = self._wires.get((node, lane))
        if wire is None:
            client = self._clients.get(node)
            if client is None:
                client = self._clients[node] = self._open_client(node)
            wire = self._wires[node, lane] = Wire(client)
        return wire

    # --- who holds what

    async def _owner(self, slot: int) -> Address:
        """Raises redis's `ConnectionError` if nobody holds the slot, or no node answers."""
        if slot not in self._owners:
            self._look_soon(now=True)
            assert self._looking is not None
            await asyncio.shield(self._looking)
        if slot not in self._owners:
            raise Disconnected("no node of the cluster holds the slot")
        return self._owners[slot]

    def _look_soon(self, *, now: bool = False) -> None:
        if self._looking is None or (self._looking.done() and self._is_due(now)):
            self._looking = asyncio.create_task(self._look(), name="redis-cluster")
            self._looking.add_done_callback(looked_at)

    def _is_due(self, now: bool) -> bool:
        return now or time.monotonic() - self._looked_at > APART_SECONDS

    async def _look(self) -> None:
        """Ask one node after the other; those that hold something first."""
        self._looked_at, refusal = time.monotonic(), None
        for node in dict.fromkeys((*self._owners.values(), *self._seeds)):
            try:
                (ranges,) = await self._wire(node, "look").exchange([("CLUSTER", "SLOTS")])
                if isinstance(ranges, Exception):
                    raise ranges
            except (RedisError, OSError) as error:
                log.debug("node_away", node=f"{node.host}:{node.port}", reason=type(error).__name__)
                refusal = error if is_of_rights(error) else refusal
                continue
            if found := _owners(ranges, node):
                self._owners = found
                return
        raise refusal or Disconnected("no node of the cluster says who holds what")


def _owners(ranges: Sequence[Any], asked: Address) -> dict[int, Address]:
    """What `CLUSTER SLOTS` answers. A node that does not know its own name is where it was asked."""
    found = {}
    for first, last, (host, port, *_), *_ in ranges:
        name = host.decode() if isinstance(host, bytes) else host
        owner = Address(name if name not in ("", "?", None) else asked.host, port)
        found.update(dict.fromkeys(range(first, last + 1), owner))
    return found


_slot_of_name = lru_cache(4096)(key_slot)


def _slot_of(command: Command) -> int | None:
    """`None`: it has no key."""
    name = command[0].decode() if isinstance(command[0], bytes) else command[0]
    if name in _KEYLESS or len(command) < 2:
        return None
    return key_slot(command[3] if name == "EVALSHA" else command[1])


def _errors(replies: Sequence[Any]) -> Iterator[Exception]:
    return (reply for reply in replies if isinstance(reply, Exception))


def _first(replies: Sequence[Any], kind: type[Any]) -> Any | None:
    return next((reply for reply in replies if isinstance(reply, kind)), None)
