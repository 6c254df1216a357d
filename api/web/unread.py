"""What one process holds for clients that have not read it yet, and its limit.

Two things are counted: the bodies of large answers that are being sent, each once however many clients are sent it,
and what stands in the buffers of connections whose clients read slowly. When that is more than the limit, clients
that have taken nothing for a while are cut off, the one that stands still longest first. Where that is not enough,
further large answers are refused until some are through.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, Self

from neverstale.api.state import STATE, State
from neverstale.api.web.problems import too_much_unread
from neverstale.role import telemetry

CLIENT: Final = "neverstale.client"
"""Where a request's state has a weak reference to its `Client`."""
STANDS_SECONDS: Final = 1.0
"""Who takes nothing for so long makes room for others when there is none."""


class Client(Protocol):
    """A connection, as what is sent over it sees it."""

    def unsent(self) -> int:
        """Bytes that are written and not taken yet."""

    def stands_since(self) -> float:
        """When it last took something, in monotonic seconds."""

    def cut_off(self) -> None:
        """End the connection at once, whatever is unsent."""


class Unread:
    """Counts it for one process. Every method belongs to its event loop."""

    def __init__(self, limit_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit_bytes
        self.bytes = 0
        self._clock = clock
        self._bodies: dict[int, tuple[bytes, int]] = {}
        """By identity: a body and how many answers hold it."""
        self._buffers: dict[Client, int] = {}
        """What stands in the buffers of slow clients; may be a little less by now."""
        self._holdings: dict[Client, Holding] = {}

    def hold(self, client: Client | None) -> "Holding":
        """For the bodies of one answer; `None`: it is not known who is sent it."""
        holding = Holding(self, client)
        if client is not None:
            self._holdings[client] = holding
        return holding

    # --- connections

    def buffered(self, client: Client) -> None:
        """The client reads more slowly than it is written to."""
        self.drained(client)
        self._buffers[client] = unsent = client.unsent()
        self.bytes += unsent
        if self.bytes > self.limit:
            self._make_room(0)

    def drained(self, client: Client) -> None:
        """The client has read, or is gone."""
        self.bytes -= self._buffers.pop(client, 0)

    # --- bodies

    def take(self, bodies: Iterable[bytes]) -> None:
        """Counts these; a `Problem` if there is no room for them. One alone always finds room."""
        new = {id(body): body for body in bodies if id(body) not in self._bodies}
        size = sum(map(len, new.values()))
        if size and self.bytes + size > self.limit:
            self._make_room(size)
            if self.bytes and self.bytes + size > self.limit:
                telemetry.UNREAD_REFUSED.inc()
                raise too_much_unread()
        self.bytes += size
        for body in bodies:
            held = self._bodies.get(id(body))
            self._bodies[id(body)] = body, 1 if held is None else held[1] + 1

    def give_back(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            _, count = self._bodies[id(body)]
            if count > 1:
                self._bodies[id(body)] = body, count - 1
            else:
                del self._bodies[id(body)]
                self.bytes -= len(body)

    def ended(self, client: Client | None, holding: "Holding") -> None:
        if client is not None and self._holdings.get(client) is holding:
            del self._holdings[client]

    def _make_room(self, size: int) -> None:
        now = self._clock()
        slow = [client for client in self._buffers if now - client.stands_since() >= STANDS_SECONDS]
        for client in sorted(slow, key=lambda client: client.stands_since()):
            if self.bytes + size <= self.limit:
                return
            telemetry.CONNECTIONS_CUT.labels("room").inc()
            client.cut_off()
            self.drained(client)
            if (holding := self._holdings.get(client)) is not None:
                holding.end()


class Holding:
    """What one answer keeps in memory until its client has read it. A context manager."""

    def __init__(self, unread: Unread, client: Client | None) -> None:
        self._unread = unread
        self._client = client
        self._bodies: dict[int, bytes] = {}
        self._ended = False

    def add(self, bodies: Iterable[bytes]) -> None:
        """Raises a `Problem` if there is no room for them."""
        new = {id(body): body for body in bodies if id(body) not in self._bodies}
        if new and not self._ended:
            self._unread.take(list(new.values()))
            self._bodies |= new

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._unread.give_back(self._bodies.values())
            self._unread.ended(self._client, self)
            self._bodies.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()


def hold_for(state: dict[str, Any]) -> Holding:
    """For an answer to the request with this state."""
    opened: State | None = state.get(STATE)
    reference = state.get(CLIENT)
    client: Client | None = reference() if reference is not None else None
    return (_UNLIMITED if opened is None else opened.unread).hold(client)


_UNLIMITED: Final = Unread(1 << 62)
"""Where no lifespan runs."""
