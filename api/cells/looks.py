"""Looks at the watermarks of all cells of a watcher group: those of one server are fetched in one batch, by one task.

A server that does not answer holds up no other: each is looked at by itself, and not again while a look is under way.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn, Protocol

from redis.exceptions import RedisError

from neverstale.api.freshness.watermark import Freshness, pause_after
from neverstale.redis.nodes import Nodes
from neverstale.redis.wire import Wire
from neverstale.role.retry import forever
from neverstale.role.tasks import start

LANE: Final = "looks"
LEAST_INTERVAL_MS: Final = 2
"""For each cell: watermarks of many cells are fetched less often."""


class Looked(Protocol):
    """A cell, as far as it is looked at."""

    closed: bool
    """It is not read any more; then nothing is wrong with it."""

    @property
    def freshness(self) -> Freshness: ...

    @property
    def name(self) -> bytes:
        """One of its own."""


class Looks:
    """`cells` returns those that are read now. `asked` is set when somebody reads: then they are looked at more
    often."""

    def __init__(
        self, nodes: Nodes, cells: Callable[[], Iterable[Looked]], asked: asyncio.Event, interval_ms: int
    ) -> None:
        self._nodes = nodes
        self._cells = cells
        self._asked = asked
        self._interval_ms = interval_ms
        self._under_way: set[Wire | bytes] = set()

    async def keep(self, group: asyncio.TaskGroup) -> NoReturn:
        """Looks again and again, until cancelled."""

        async def look() -> float:
            started = time.monotonic()
            self._asked.clear()
            cells = list(self._cells())
            interval = max(self._interval_ms, LEAST_INTERVAL_MS * len(cells)) / 1000
            for server, some in self._by_server(cells).items():
                if server not in self._under_way:
                    self._under_way.add(server)
                    start(group, self._look(server, some), "watermarks")
            return await pause_after(started, interval, self._asked)

        await forever(look)
        raise AssertionError("it never ends")

    def _by_server(self, cells: Iterable[Looked]) -> dict[Wire | bytes, list[Looked]]:
        """A cell of which nobody knows where it lies is looked at alone, and then found."""
        found: dict[Wire | bytes, list[Looked]] = {}
        for cell in cells:
            found.setdefault(self._nodes.wire_to(cell.name, LANE) or cell.name, []).append(cell)
        return found

    async def _look(self, server: Wire | bytes, cells: Sequence[Looked]) -> None:
        before = [cell.freshness.latest for cell in cells]
        try:
            if isinstance(server, Wire):
                await self._ask(server, cells)
            else:
                await cells[0].freshness.poll()
        finally:
            self._under_way.discard(server)
        if [cell.freshness.latest for cell in cells] != before:
            self._asked.set()  # where changes come, whoever asks next wants to know of the last one

    async def _ask(self, wire: Wire, cells: Sequence[Looked]) -> None:
        try:
            replies, identity = await wire.exchange_telling([cell.freshness.question() for cell in cells])
        except (RedisError, OSError) as error:
            self._nodes.failed(error)
            for cell in cells:
                if not cell.closed:
                    cell.freshness.unanswered(error)
            return
        for cell, reply in zip(cells, replies, strict=True):
            if not cell.closed:
                await cell.freshness.answer(identity, reply)
