"""Reads of documents in several cells of one server: all that is asked for in a turn of the event loop leaves as one
batch, in one task. What a read costs should not depend on how many cells its documents lie in.

Each cell is still judged by itself: by its own evidence, its own breaker, and whether its own watermarks vouch for
the server that answered. What is no plain answer of a cell is asked for again by that cell alone, which knows what to
do about it: a slot has moved, or a key is not ours.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeAlias

from redis.exceptions import RedisError

from neverstale.api.reads.ask import Ask
from neverstale.api.reads.reader import BATCHES_UNDER_WAY, BegunRead, Reader, Rest, SourceTurn
from neverstale.api.reads.source import DocumentSource, Part, keys_of
from neverstale.redis.nodes import Nodes
from neverstale.redis.wire import Vouched, Wire, unvouched
from neverstale.role.tasks import Tasks, at_once

LANE: Final = "hits"
OUTAGES: Final = (RedisError, OSError)
"""What a server raises that does not answer."""


class CellReader(Reader):
    """Reads one cell's documents, together with what is read of other cells."""

    def __init__(self, *arguments: Any, together: "Together", name: bytes, vouched: Vouched) -> None:
        """`name`: one of the cell's own. `vouched`: whether a server may answer for the cell now."""
        super().__init__(*arguments)
        self._together = together
        self.name = name
        self.vouched = vouched

    def _leave(self, turn: SourceTurn) -> None:
        if turn.asks:
            self._together.add(self, turn)


_Sent: TypeAlias = tuple[CellReader, SourceTurn, Sequence[Ask]]


class Together:
    """What the cells of one process read."""

    def __init__(self, nodes: Nodes, tasks: Tasks) -> None:
        self._nodes = nodes
        self._tasks = tasks
        self._call_soon = asyncio.get_running_loop().call_soon
        self._waiting: dict[Wire, dict[SourceTurn, CellReader]] = {}
        self._under_way: dict[Wire, int] = {}
        self._leaving = False

    def add(self, reader: CellReader, turn: SourceTurn) -> None:
        """Has a cell's asks sent with the others of this turn of the event loop to the same server; if so many
        batches to it are under way, with all others that come until one of them has ended."""
        wire = self._nodes.wire_to(reader.name, LANE)
        if wire is None:
            while turn.asks:
                self._tasks.start(reader.answer(turn, reader.take(turn)), turn.name)
            return
        self._waiting.setdefault(wire, {})[turn] = reader
        if not self._leaving:
            self._leaving = True
            self._call_soon(self._leave)

    def _leave(self) -> None:
        self._leaving = False
        for wire in list(self._waiting):
            self._leave_to(wire)

    def _leave_to(self, wire: Wire) -> None:
        while wire in self._waiting and self._under_way.get(wire, 0) < BATCHES_UNDER_WAY:
            waiting = self._waiting.pop(wire)
            sent = [(reader, turn, reader.take(turn)) for turn, reader in waiting.items() if turn.asks]
            if more := {turn: reader for turn, reader in waiting.items() if turn.asks}:
                self._waiting[wire] = more
            if sent:
                self._under_way[wire] = self._under_way.get(wire, 0) + 1
                self._tasks.start(self._answer(wire, sent), "read-cells")

    async def _answer(self, wire: Wire, sent: Sequence[_Sent]) -> None:
        reads: list[_CellRead] = []
        rests: list[Coroutine[Any, Any, None]] = []
        failure: BaseException | None = None
        try:
            for reader, turn, asks in sent:
                try:
                    reads.append(_CellRead(reader, reader.begin(turn, asks)))
                except BaseException as error:  # the others get what is theirs
                    failure = error
            await self._ask(wire, [one for one in reads if one.begun.evidence is not None])
            for one in reads:
                if one.is_plain:
                    try:
                        rest = await one.answer_hits()
                    except BaseException as error:
                        failure = error
                    else:
                        if any(asks for _, asks in rest):
                            rests.append(one.answer_rest(rest))
        finally:
            self._end(wire)
        # Who asks alone, or asks MongoDB, holds up nobody.
        await at_once(*rests, *(one.answer_alone() for one in reads if not one.is_plain))
        if failure is not None:
            raise failure

    async def _ask(self, wire: Wire, asked: Sequence["_CellRead"]) -> None:
        """Asks for all, and notes for each what came of it."""
        if not asked:
            return
        try:
            replies, identity = await wire.exchange_telling([one.source.reading(one.keys) for one in asked])
            for one, reply in zip(asked, replies, strict=True):
                one.reply, one.lost = reply, None if one.reader.vouched(identity) else unvouched()
        except BaseException as error:
            if isinstance(error, OUTAGES):
                self._nodes.failed(error)
            for one in asked:
                one.lost = error

    def _end(self, wire: Wire) -> None:
        """A batch is under way no longer."""
        self._under_way[wire] -= 1
        if not self._under_way[wire]:
            del self._under_way[wire]
        self._leave_to(wire)


class _CellRead:
    """One cell's part of a batch."""

    __slots__ = ("begun", "keys", "lost", "reader", "reply", "source")

    def __init__(self, reader: CellReader, begun: BegunRead) -> None:
        source = begun.turn.source
        assert isinstance(source, DocumentSource)
        self.reader = reader
        self.begun = begun
        self.source = source
        self.keys = keys_of(begun.asks)
        self.reply: Any = None
        self.lost: BaseException | None = None
        """Why there is no reply."""

    @property
    def is_plain(self) -> bool:
        """It has its reply, or gets none."""
        return isinstance(self.reply, list) or self.lost is not None or self.begun.evidence is None

    async def answer_hits(self) -> list[Rest]:
        return await self.reader.answer_hits(self.begun, self._read)

    async def answer_rest(self, rest: Sequence[Rest]) -> None:
        await self.reader.answer_rest(self.begun.turn, rest)

    async def answer_alone(self) -> None:
        await self.answer_rest(await self.answer_hits())

    async def _read(self, asks: Sequence[Ask]) -> list[Part]:
        """What the reply says; a `ReadEntries`."""
        if isinstance(self.lost, OUTAGES):
            raise self.source.outage(self.lost) from self.lost
        if self.lost is not None:
            raise self.lost
        if isinstance(self.reply, list):
            return self.source.read_in(self.keys, self.reply)
        return list(await self.source.read(asks))
