"""Compressed bodies, each compressed once.

They are kept by the ETag of the body, which is a digest of it, so nothing here can become stale.
"""

import asyncio
import zlib
from typing import Final

from api.recent import Recent
from api.tasks import Tasks

FROM_BYTES: Final = 1024
"""Smaller bodies gain nothing that a packet would notice."""
AT_ONCE_BYTES: Final = 32 << 10
"""Compressing more would hold up the event loop for a millisecond: a thread does it, and until then nobody waits."""
UP_TO_BYTES: Final = 1 << 20
KEPT_BYTES: Final = 16 << 20
LEVEL: Final = 6
_GZIP: Final = 16 + zlib.MAX_WBITS


class Compressed:
    """Of one process."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._kept = Recent(KEPT_BYTES)
        self._under_way: set[bytes] = set()

    def of(self, etag: bytes, body: bytes) -> bytes | None:
        """The body in gzip; `None`: not worth it, or not there yet."""
        if not FROM_BYTES < len(body) <= UP_TO_BYTES:
            return None
        packed = self._kept.get(etag)
        if packed is not None:
            return packed
        if len(body) <= AT_ONCE_BYTES:
            packed = compress(body)
            self._kept.put(etag, packed)
            return packed
        if etag not in self._under_way:
            self._under_way.add(etag)
            self._tasks.start(self._compress(etag, body), "compress")
        return None

    async def _compress(self, etag: bytes, body: bytes) -> None:
        try:
            self._kept.put(etag, await asyncio.to_thread(compress, body))
        finally:
            self._under_way.discard(etag)


def compress(body: bytes) -> bytes:
    """Equal for equal bodies: the header of zlib's gzip names no time and no file."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()
