"""What one process holds of what clients have sent and nobody has answered yet, and its limit.

Each connection may hold a head that is not complete, or a large one, and what waits behind a request that is being
answered. Of one connection that is little; ten thousand of them could fill the memory. When all hold more than the
limit together, those are cut off that have held something for longest.
"""

from typing import Final

from neverstale.api.web.unread import Client
from neverstale.role import telemetry

LARGE_HEAD_BYTES: Final = 16 << 10
"""A smaller one, once it is complete, is not counted."""


class Heard:
    """Counts it for one process. Every method belongs to its event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.bytes = 0
        self._of: dict[Client, int] = {}
        """Those that hold something, in the order in which they began to."""

    def note(self, client: Client, size: int) -> None:
        """The client's connection holds so many bytes now."""
        self.bytes += size - self._of.get(client, 0)
        if size:
            self._of[client] = size
        else:
            self._of.pop(client, None)
        while self.bytes > self.limit and len(self._of) > 1:
            first = next(iter(self._of))
            telemetry.CONNECTIONS_CUT.labels("heard").inc()
            self.bytes -= self._of.pop(first)
            first.cut_off()
