"""What is read of several cells leaves as one batch a server, and each cell gets what is its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import MovedError

from neverstale.api.cells.together import CellReader, Together
from neverstale.api.freshness.watermark import Evidence
from neverstale.api.reads.ask import FutureAsk
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.reader import BATCHES_UNDER_WAY, BegunRead, SourceTurn
from neverstale.api.reads.source import DocumentSource
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.most_read import Popularity
from neverstale.redis.nodes import Nodes
from neverstale.redis.wire import Wire
from neverstale.role.tasks import Tasks

FLOOR = b"0" * 16
REDIS = "run-replication"


class Server:
    """A wire to a server that has only floors; it notes what is sent together."""

    def __init__(self, *, gone: Exception | None = None) -> None:
        self.batches: list[Sequence[Any]] = []
        self.replies: dict[bytes, Any] = {}
        """What it replies to who asks for this floor, if that is no floor."""
        self.answers = asyncio.Event()
        self.answers.set()
        self._gone = gone

    async def exchange_telling(self, commands: Sequence[Any]) -> tuple[list[Any], str]:
        self.batches.append(commands)
        await self.answers.wait()
        if self._gone is not None:
            raise self._gone
        return [self.replies.get(command[1], [FLOOR, *command[2:]]) for command in commands], REDIS


class Servers:
    """Cell -> server; a `Nodes`."""

    def __init__(self) -> None:
        self.of: dict[bytes, Server] = {}
        self.failures: list[BaseException] = []

    def wire_to(self, name: bytes, lane: str) -> Wire | None:
        return cast("Wire | None", self.of.get(name))

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


class Turn:
    """A turn of a source; only what is waiting in it."""

    def __init__(self, source: DocumentSource) -> None:
        self.source = source
        self.name = "read-items"
        self.asks: list[FutureAsk] = []


class StandIn:
    """In place of the reader of a cell: it notes what is read for it."""

    def __init__(self, tag: str, vouched: Callable[[str], bool]) -> None:
        self.names = Names("ns").cell(tag)
        self.name = self.names.applied
        self.vouched = vouched
        self.alone = 0
        self.found: Any = None
        resource = Resource(name="items", key_type="string")  # type: ignore[call-arg]
        cache = Cache(cast("Redis", None), self.names, round_trip=self._round_trip)
        self.source = DocumentSource(resource, cache, ReadCounts(self.names, Popularity(cache, 60)), "/v1/items/")
        self.turn = cast("SourceTurn", Turn(self.source))
        self.most = 100
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.asks = [FutureAsk(self.source, key, entry_key=self.names.entry("items", f"s:{key}")) for key in "ab"]

    async def _round_trip(self, commands: Sequence[Any]) -> list[Any]:
        self.alone += 1
        await self.reachable.wait()
        return [[FLOOR, *command[2:]] for command in commands]

    def take(self, turn: SourceTurn) -> Sequence[Any]:
        asks, turn.asks = turn.asks[: self.most], turn.asks[self.most :]
        return asks

    def begin(self, turn: SourceTurn, asks: Sequence[Any]) -> BegunRead:
        return BegunRead(turn, asks, Evidence(1, 0), None)

    async def answer(self, turn: SourceTurn, asks: Sequence[Any]) -> None:
        self.found = await self.source.read(asks)

    async def answer_hits(self, begun: BegunRead, read: Callable[[Sequence[Any]], Awaitable[Any]]) -> list[Any]:
        try:
            self.found = await read(begun.asks)
        except Outage as outage:
            self.found = outage
        return []

    async def answer_rest(self, turn: SourceTurn, missing: Sequence[Any]) -> None:
        raise AssertionError("nothing is missing")

    def got_its_own(self) -> bool:
        return isinstance(self.found, list) and list(self.found[0].raws) == [ask.entry_key for ask in self.asks]


class Reads:
    """Reads of cells, turn by turn of the event loop."""

    def __init__(self, servers: Servers) -> None:
        self._tasks = Tasks()
        self._together = Together(cast("Nodes", servers), self._tasks)

    async def turn(self, *cells: StandIn) -> None:
        for cell in cells:
            cell.turn.asks += cell.asks
            self._together.add(cast("CellReader", cell), cell.turn)
        for _ in range(5):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        await self._tasks.finish(5)


async def read_together(servers: Servers, *cells: StandIn) -> None:
    reads = Reads(servers)
    await reads.turn(*cells)
    await reads.finish()


def cells_on(servers: Servers, server: Server, *tags: str) -> list[StandIn]:
    cells = [StandIn(tag, lambda identity: identity == REDIS) for tag in tags]
    servers.of.update({cell.name: server for cell in cells})
    return cells


async def test_cells_of_one_server_are_read_in_one_batch_and_those_of_another_in_another() -> None:
    servers, one, other = Servers(), Server(), Server()
    cells = cells_on(servers, one, "g.4.0", "g.4.1") + cells_on(servers, other, "g.4.2", "g.4.3")
    await read_together(servers, *cells)
    assert [len(server.batches) for server in (one, other)] == [1, 1]
    assert all(cell.got_its_own() and not cell.alone for cell in cells)


@pytest.mark.parametrize("reply", [MovedError("3 127.0.0.1:7000"), None])
async def test_a_cell_without_a_plain_answer_asks_alone(reply: Any) -> None:
    servers, server = Servers(), Server()
    moved, stayed = cells_on(servers, server, "g.4.0", "g.4.1")
    server.replies[moved.names.floor("items")] = reply
    await read_together(servers, moved, stayed)
    assert moved.got_its_own() and stayed.got_its_own()
    assert (moved.alone, stayed.alone) == (1, 0)


async def test_a_cell_whose_watermarks_are_of_another_server_has_no_answer_and_its_neighbour_has() -> None:
    servers, server = Servers(), Server()
    doubted, vouched = cells_on(servers, server, "g.4.0", "g.4.1")
    doubted.vouched = lambda identity: False
    await read_together(servers, doubted, vouched)
    assert isinstance(doubted.found, Outage)
    assert not doubted.alone
    assert vouched.got_its_own()


async def test_a_cell_whose_batch_cannot_begin_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    servers, server = Servers(), Server()
    broken, sound = cells_on(servers, server, "g.4.0", "g.4.1")
    monkeypatch.setattr(broken, "begin", lambda turn, asks: 1 / 0)
    await read_together(servers, broken, sound)
    assert sound.got_its_own() and broken.found is None


async def test_a_server_that_is_gone_is_an_outage_of_its_cells_alone() -> None:
    servers, gone, there = Servers(), Server(gone=Disconnected("lost")), Server()
    lost, kept = cells_on(servers, gone, "g.4.0", "g.4.1"), cells_on(servers, there, "g.4.2")
    await read_together(servers, *lost, *kept)
    assert all(isinstance(cell.found, Outage) and not cell.alone for cell in lost)
    assert kept[0].got_its_own()
    assert [str(error) for error in servers.failures] == ["lost"], "perhaps the cells lie elsewhere now"


async def test_a_cell_of_which_nobody_knows_where_it_lies_asks_alone() -> None:
    servers = Servers()
    cell = StandIn("g.4.0", lambda identity: True)
    await read_together(servers, cell)
    assert cell.got_its_own() and cell.alone == 1


async def test_while_a_server_has_enough_to_do_all_that_is_asked_waits_for_one_batch() -> None:
    servers, server, other = Servers(), Server(), Server()
    cells, elsewhere = cells_on(servers, server, "g.4.0", "g.4.1", "g.4.2"), cells_on(servers, other, "g.4.3")
    server.answers.clear()
    reads = Reads(servers)
    for cell in cells * 3:
        await reads.turn(cell)
    assert len(server.batches) == BATCHES_UNDER_WAY
    await reads.turn(*elsewhere)
    assert len(other.batches) == 1, "another server has nothing to do with it"
    server.answers.set()
    await reads.finish()
    assert [len(batch) for batch in server.batches] == [1, 1, 3]
    assert not any(cell.turn.asks for cell in cells)


async def test_what_is_too_much_for_one_batch_leaves_in_the_next() -> None:
    servers, server = Servers(), Server()
    cells = cells_on(servers, server, "g.4.0", "g.4.1")
    cells[0].most = 1
    await read_together(servers, *cells)
    assert [len(batch) for batch in server.batches] == [2, 1]


async def test_cells_that_ask_alone_hold_up_nobody() -> None:
    servers, server = Servers(), Server()
    moved, stayed = cells_on(servers, server, "g.4.0", "g.4.1")
    server.replies[moved.names.floor("items")] = MovedError("3 127.0.0.1:7000")
    moved.reachable.clear()
    reads = Reads(servers)
    for _ in range(2 * BATCHES_UNDER_WAY):
        await reads.turn(moved)
    await reads.turn(stayed)
    assert stayed.got_its_own() and moved.found is None
    moved.reachable.set()
    await reads.finish()
    assert moved.got_its_own()
