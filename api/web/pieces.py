"""Large answers go out in pieces: copied together, hashed and written as one, an answer of many megabytes would take
a long turn of the event loop, and everybody else would wait for it.

A piece is written when the client has read enough of those before it, and after each of them others have their turn.
"""

from collections.abc import Iterable, Iterator
from typing import Final

LARGE_BYTES: Final = 64 << 10
"""A larger body goes out in pieces."""
PIECE_BYTES: Final = 64 << 10


def length_of(parts: Iterable[bytes]) -> int:
    return sum(map(len, parts))


def pieces(parts: Iterable[bytes], skip: int = 0) -> Iterator[bytes]:
    """The same bytes in the same order, none of it longer than a piece; short parts are put together. `skip`: so many
    bytes of the first part are left out."""
    short: list[bytes] = []
    room = PIECE_BYTES
    for part in parts:
        if len(part) > room and short:
            yield b"".join(short)
            short, room = [], PIECE_BYTES
        if len(part) <= room:
            short.append(part[skip:] if skip else part)
            room -= len(part)
        else:
            for start in range(skip, len(part), PIECE_BYTES):
                yield part[start : start + PIECE_BYTES]
        skip = 0
    if short:
        yield b"".join(short)
