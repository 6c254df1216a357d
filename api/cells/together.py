"""Reads of documents in several cells of one server: all that is asked for in a turn of the event loop leaves as one
batch, in one task. What a read costs should not depend on how many cells its documents lie in.

Each cell is still judged by itself: by its own evidence, its own breaker, and whether its own watermarks vouch for
the server that answered. What is no plain answer of a cell is asked for again by that cell alone, which knows what to
do about it: a slot has moved, or a key is not ours.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from redis.exceptions import RedisError

from neverstale.api.reads.ask import Ask
from neverstale.api.reads.reader import BegunRead, Reader, Rest, SourceTurn
from neverstale.api.reads.source import DocumentSource, Part, keys_of
from neverstale.redis.nodes import Nodes
from neverstale.redis.wire import Vouched, Wire, unvouched
from neverstale.role.tasks import Tasks, at_once

LANE: Final = "hits"


class CellReader(Reader):
    """Reads one cell's documents, together with what is read of other cells."""

    def __init__(self, *arguments: Any, together: "Together", name: bytes, vouched: Vouched) -> None:
        """`name`: one of the cell's own. `vouched`: whether a server may answer for the cell now."""
        super().__init__(*arguments)
        self._together = together
        self.name = name
        self.vouched = vouched

    def _send(self, turn: SourceTurn, asks: Sequence[Ask]) -> None:
        self._together.add(self, turn, asks)


_Sent: TypeAlias = tuple[CellReader, SourceTurn, Sequence[Ask]]


class Together:
    """What the cells of one process read."""

    def __init__(self, nodes: Nodes, tasks: Tasks) -> None:
        self._nodes = nodes
        self._tasks = tasks
        self._call_soon = asyncio.get_running_loop().call_soon
        self._gathered: dict[Wire, list[_Sent]] = {}

    def add(self, reader: CellReader, turn: SourceTurn, asks: Sequence[Ask]) -> None:
        """Has a cell's batch sent with the others of this turn of the event loop to the same server."""
        wire = self._nodes.wire_to(reader.name, LANE)
        if wire is None:
            self._tasks.start(reader.answer(turn, asks), turn.name)
            return
        if not self._gathered:
            self._call_soon(self._leave)
        self._gathered.setdefault(wire, []).append((reader, turn, asks))

    def _leave(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for wire, sent in gathered.items():
            self._tasks.start(self._answer(wire, sent), "read-cells")

    async def _answer(self, wire: Wire, sent: Sequence[_Sent]) -> None:
        reads: list[_CellRead] = []
        failure: BaseException | None = None
        for reader, turn, asks in sent:
            try:
                reads.append(_CellRead(reader, reader.begin(turn, asks)))
            except BaseException as error:  # the others get what is theirs
                failure = error
        asked = [one for one in reads if one.begun.evidence is not None]
        try:
            if asked:
                replies, identity = await wire.exchange_telling([one.source.reading(one.keys) for one in asked])
                for one, reply in zip(asked, replies, strict=True):
                    one.reply, one.lost = reply, None if one.reader.vouched(identity) else unvouched()
        except (RedisError, OSError) as error:
            self._nodes.failed(error)
            for one in asked:
                one.lost = error
        except BaseException as error:
            failure = error
            for one in asked:
                one.lost = error
        missing: list[tuple[_CellRead, list[Rest]]] = []
        for one in reads:
            try:
                rest = await one.reader.answer_hits(one.begun, one.read)
            except BaseException as error:
                failure = error
            else:
                missing.append((one, rest))
        await at_once(*(one.reader.answer_rest(one.begun.turn, rest) for one, rest in missing if _any(rest)))
        if failure is not None:
            raise failure


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

    async def read(self, asks: Sequence[Ask]) -> list[Part]:
        """What the reply says; a `ReadEntries`."""
        if isinstance(self.lost, (RedisError, OSError)):
            raise self.source.outage(self.lost) from self.lost
        if self.lost is not None:
            raise self.lost
        if isinstance(self.reply, list):
            return self.source.read_in(self.keys, self.reply)
        return list(await self.source.read(asks))


def _any(rest: Sequence[Rest]) -> bool:
    return any(asks for _, asks in rest)
