"""Compressed bodies, each compressed once.

They are kept by the ETag of the body, which is a digest of it, so nothing here can become stale.
"""

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import brotli

from neverstale.api.reads.recently_used import Recent
from neverstale.api.web.pieces import length_of
from neverstale.role.tasks import Tasks

FROM_BYTES: Final = 1024
"""Smaller bodies gain nothing that a packet would notice."""
AT_ONCE_BYTES: Final = 32 << 10
"""Compressing more would hold up the event loop for a millisecond: a thread does it, and until then nobody waits."""
UP_TO_BYTES: Final = 1 << 20
KEPT_BYTES: Final = 16 << 20
MOST_UNDER_WAY: Final = 8
"""Bodies that wait for threads, each held in memory meanwhile. Further ones go out as they are."""
LEVEL: Final = 6
_GZIP: Final = 16 + zlib.MAX_WBITS
_BROTLI_QUALITY: Final = 5
"""As fast as gzip at its level, and a tenth smaller."""

Coding: TypeAlias = Literal[b"br", b"gzip"]


class Packed(NamedTuple):
    """A compressed body."""

    coding: Coding
    body: bytes


class Compressed:
    """Compressed bodies of one process."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._kept = Recent(KEPT_BYTES)
        self._under_way: set[bytes] = set()

    def of(self, coding: Coding | None, etag: bytes, parts: Sequence[bytes]) -> Packed | None:
        """The body in a coding; `None`: none is wanted, it is not worth it, or not there yet."""
        if coding is None or not FROM_BYTES < (size := length_of(parts)) <= UP_TO_BYTES:
            return None
        name = coding + etag
        packed = self._kept.get(name)
        if packed is not None:
            return Packed(coding, packed)
        if size <= AT_ONCE_BYTES:
            packed = COMPRESS[coding](b"".join(parts))
            self._kept.put(name, packed)
            return Packed(coding, packed)
        if name not in self._under_way and len(self._under_way) < MOST_UNDER_WAY:
            self._under_way.add(name)
            self._tasks.start(self._compress(coding, name, b"".join(parts)), "compress")
        return None

    async def _compress(self, coding: Coding, name: bytes, body: bytes) -> None:
        try:
            self._kept.put(name, await asyncio.to_thread(COMPRESS[coding], body))
        finally:
            self._under_way.discard(name)


def _gzip(body: bytes) -> bytes:
    """Equal for equal bodies: the header of zlib's gzip names no time and no file."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


def _brotli(body: bytes) -> bytes:
    packed: bytes = brotli.compress(body, mode=brotli.MODE_TEXT, quality=_BROTLI_QUALITY)
    return packed


COMPRESS: Final[Mapping[Coding, Callable[[bytes], bytes]]] = {b"br": _brotli, b"gzip": _gzip}
"""In the order in which we prefer them."""
