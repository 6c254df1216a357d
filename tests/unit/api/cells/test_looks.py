"""Watermarks of all cells of one server come in one batch; a server that is silent holds up no other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from redis.exceptions import ConnectionError as Disconnected

from neverstale.api.cells.looks import Looks
from neverstale.api.freshness.watermark import Freshness
from neverstale.redis.nodes import Nodes
from neverstale.redis.wire import Wire
from tests.support.waiting import eventually


class Server(Wire):
    """Replies with the number of batches so far; or not before it is let."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.batches: list[Sequence[Any]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self._error = error

    async def exchange_telling(self, commands: Sequence[Any]) -> tuple[list[Any], str]:
        self.batches.append(commands)
        await self.answers.wait()
        if self._error is not None:
            raise self._error
        return [f"{command}: {len(self.batches)}" for command in commands], "it"


class Told:
    """What a cell's freshness is told."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self.latest = 0
        self.told: list[Any] = []
        self.polls = 0

    def question(self) -> Any:
        return self._name

    async def answer(self, identity: str, reply: Any) -> None:
        self.told.append(reply)

    def unanswered(self, error: Exception) -> None:
        self.told.append(error)

    async def poll(self) -> None:
        self.polls += 1


@dataclass
class Cell:
    name: bytes
    told: Told
    closed: bool = False

    @property
    def freshness(self) -> Freshness:
        return cast("Freshness", self.told)


class Servers:
    def __init__(self, of: dict[bytes, Server]) -> None:
        self._of = of

    def wire_to(self, name: bytes, lane: str) -> Wire | None:
        return self._of.get(name)

    def failed(self, error: BaseException) -> None: ...


def cell(name: bytes) -> Cell:
    return Cell(name, Told(name))


async def until(holds: Callable[[], bool]) -> None:
    async def held() -> bool:
        return holds()

    await eventually(held, "the cell was looked at", seconds=5)


@asynccontextmanager
async def looking(servers: dict[bytes, Server], *cells: Cell) -> AsyncIterator[asyncio.Event]:
    asked = asyncio.Event()
    looks = Looks(cast("Nodes", Servers(servers)), lambda: cells, asked, interval_ms=1)

    async def keep() -> None:
        async with asyncio.TaskGroup() as group:
            await looks.keep(group)

    task = asyncio.create_task(keep())
    try:
        yield asked
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_all_cells_of_a_server_are_asked_for_at_once_and_each_is_told_its_own() -> None:
    server = Server()
    cells = cell(b"a"), cell(b"b")
    async with looking({b"a": server, b"b": server}, *cells):
        await until(lambda: bool(cells[1].told.told))
    assert server.batches[0] == [b"a", b"b"]
    assert [one.told.told[0] for one in cells] == ["b'a': 1", "b'b': 1"]


async def test_a_silent_server_holds_up_no_other_and_is_not_asked_again_meanwhile() -> None:
    silent, there = Server(), Server()
    silent.answers.clear()
    cells = cell(b"a"), cell(b"b")
    async with looking({b"a": silent, b"b": there}, *cells) as asked:

        def thrice() -> bool:
            asked.set()
            return len(cells[1].told.told) >= 3

        await until(thrice)
    assert len(silent.batches) == 1
    assert not cells[0].told.told


async def test_without_an_answer_each_cell_of_the_server_is_told_so() -> None:
    server = Server(error=Disconnected("lost"))
    cells = cell(b"a"), cell(b"b")
    async with looking({b"a": server, b"b": server}, *cells):
        await until(lambda: bool(cells[1].told.told))
    assert all(isinstance(one.told.told[0], Disconnected) for one in cells)


async def test_a_cell_that_is_not_read_any_more_is_told_nothing() -> None:
    server = Server()
    gone, kept = cell(b"a"), cell(b"b")
    gone.closed = True
    async with looking({b"a": server, b"b": server}, gone, kept):
        await until(lambda: bool(kept.told.told))
    assert not gone.told.told


async def test_a_cell_of_which_nobody_knows_where_it_lies_asks_for_itself() -> None:
    lost = cell(b"a")
    async with looking({}, lost):
        await until(lambda: lost.told.polls > 0)
