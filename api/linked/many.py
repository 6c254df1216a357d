"""Many documents for one answer: large ones are read few at a time, so that few of them are held."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.reads.reader import Reader
from neverstale.api.reads.source import DocumentSource
from neverstale.api.web.pieces import length_of
from neverstale.api.web.problems import answer_too_large
from neverstale.api.web.unread import Holding
from neverstale.errors import Refused
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import TooLarge

WAVE_BYTES: Final = 8 << 20
"""About so many bytes of documents for one caller are read at once."""

Each: TypeAlias = Answer | Refused
"""What MongoDB refuses of one document alone stands in place of its answer."""


class Many:
    """Reads the documents of one answer. `parameter`: what makes it large; `limit_bytes`: of all together."""

    def __init__(self, reader: Reader, wish: Wish, holding: Holding, limit_bytes: int, parameter: str) -> None:
        self._reader = reader
        self._wish = wish
        self._holding = holding
        self._limit = limit_bytes
        self._parameter = parameter
        self._bytes = 0

    async def read(self, source: DocumentSource, keys: Sequence[KeyValue]) -> dict[KeyValue, Each]:
        """Returns the answer for each key, and counts the documents as read. Raises as `Reader.get_each`, and a
        `Problem` if all that was read is too large together."""
        wanted = list(dict.fromkeys(keys))
        answers: dict[KeyValue, Each] = {}
        weight = self._reader.weight(source)
        while len(answers) < len(wanted):
            wave = wanted[len(answers) : len(answers) + weight.room(WAVE_BYTES)]
            try:
                found = await self._reader.get_each(source, wave, self._wish)
            except TooLarge:
                if len(wave) == 1 or weight.room(WAVE_BYTES) >= len(wave):
                    raise
                continue  # in smaller waves, now that it is known how large they are
            self._take(source, wave, found)
            answers.update(zip(wave, found, strict=True))
        return answers

    def _take(self, source: DocumentSource, keys: Sequence[KeyValue], found: Sequence[Each]) -> None:
        bodies: list[bytes] = []
        for key, one in zip(keys, found, strict=True):
            if isinstance(one, Answer) and one.body is not None:
                bodies.append(one.body)
                if not self._wish.audit:
                    source.count_read(source.locate(key)[0])
        self.grow(length_of(bodies))
        self._holding.add(bodies)

    def grow(self, size: int) -> None:
        """Counts bytes; a `Problem` if they are too many."""
        self._bytes += size
        if self._bytes > self._limit:
            raise answer_too_large(self._parameter, self._limit, "ask for fewer documents at once")
