"""Readers of many cells: each ask goes to the reader of the cell in which its entry lies."""

from collections.abc import Callable
from typing import Any

from neverstale.api.derived.figures import Figures, FigureSource
from neverstale.api.derived.generations import Known
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.reads.ask import Ask, bypassing
from neverstale.api.reads.reader import Reader


class CellReaders(Reader):
    """A `Reader` for all cells. `reader_of` returns that of a tag; `None`: there is no such cell."""

    def __init__(self, *arguments: Any, reader_of: Callable[[bytes], Reader | None]) -> None:
        super().__init__(*arguments)
        self._reader_of = reader_of

    def start(self, ask: Ask) -> None:
        place = ask.place
        reader = self._reader_of(place.cell if place is not None and place.cell else tag_of(ask.entry_key))
        if reader is not None:
            reader.start(ask)
        else:
            turn = self._turns[ask.source.name]
            self._tasks.start(self._answer_rest(turn, bypassing([ask]), None), turn.name)


def tag_of(key: bytes) -> bytes:
    """The hash tag of a name; empty: it has none."""
    return key.partition(b":{")[2].partition(b"}")[0]


class CellFigures(Figures):
    """Counters and rankings: those of each resource in its derived cell."""

    def __init__(self, by_resource: dict[str, Figures]) -> None:
        self._by_resource = by_resource

    async def get(self, figure: FigureSource, known: Known, key: Any, wish: Wish) -> Answer:
        return await self._by_resource[known.names.resource].get(figure, known, key, wish)
