"""A stream: one client who watches, and the way there.

On a connection of ours its words are written straight to the transport, one `write` for each: a task for each client
that wakes up for every state would cost several times as much. Other servers get them through ASGI.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from starlette.types import Receive, Send

from neverstale.api.callers.caller import Caller
from neverstale.api.live.events import Words
from neverstale.role import telemetry

if TYPE_CHECKING:
    from neverstale.api.live.feed import LiveFeed, LiveState
    from neverstale.api.live.feeds import Feeds


class StreamWire(Protocol):
    """The way to a client."""

    @property
    def takes(self) -> bool:
        """Whether it can be written to now."""

    def write(self, words: Words) -> None:
        """Comes only while it takes."""


class LiveStream:
    """One client who watches something."""

    __slots__ = ("_ended", "_home", "_on_end", "_shown", "_wire", "caller", "feed", "spoke", "why")

    def __init__(
        self,
        feed: "LiveFeed",
        home: "Feeds",
        wire: StreamWire,
        caller: Caller,
        on_end: "Callable[[LiveStream], None]" = lambda stream: None,
    ) -> None:
        """`on_end`: called once, with this stream, when it has ended."""
        self.feed = feed
        self.caller = caller
        self.spoke = monotonic()
        """When it has said something, or could not, in monotonic seconds."""
        self.why = "gone"
        """Why it ended."""
        self._home = home
        self._wire = wire
        self._shown: LiveState | None = None
        self._on_end = on_end
        self._ended = False

    def wants(self, state: "LiveState | None") -> bool:
        """Whether it can be shown this now."""
        return state is not self._shown and self._wire.takes and not self._ended

    def show(self, state: "LiveState", words: Words) -> bool:
        """Shows a state, unless it has been shown, or the client reads too slowly: then it is shown what there is
        when it has read. Returns whether it does."""
        if not self.wants(state):
            return False
        self._shown = state
        self.say_words(words)
        return True

    def say(self, text: bytes) -> None:
        self.say_words(Words(text))

    def say_words(self, words: Words) -> None:
        """Says something that may be left out."""
        self.spoke = monotonic()
        self._home.spoke(self)
        if self._wire.takes and not self._ended:
            self._wire.write(words)

    def writable(self) -> None:
        """The client has read what there was."""
        if self.feed.state is not None and self.wants(self.feed.state):
            self.feed.show_to([self])

    def gone(self) -> None:
        """The client is."""
        if not self._ended:
            self._ended = True
            self._home.part(self.feed, self)
            telemetry.LIVE_ENDED.labels(self.why).inc()
            self._on_end(self)

    def end(self, why: str) -> None:
        self.why = why
        self.gone()


@runtime_checkable
class StreamConnection(Protocol):
    """A connection of our server."""

    def begin_stream(self, writable: Callable[[], None], gone: Callable[[], None]) -> None:
        """From now on the answer goes on without the application. These are called when all that was written is
        taken, and when the client is gone."""

    def end_stream(self, chunk: bytes) -> None:
        """Writes the last of it, and closes."""

    @property
    def takes(self) -> bool: ...

    def write_stream(self, chunk: bytes) -> None: ...


class ConnectionWire:
    """Straight to the transport."""

    __slots__ = ("_connection",)

    def __init__(self, connection: StreamConnection) -> None:
        self._connection = connection

    @property
    def takes(self) -> bool:
        return self._connection.takes

    def write(self, words: Words) -> None:
        self._connection.write_stream(words.chunk)


class AsgiWire:
    """Through an ASGI server's `send`, which waits while the client reads too slowly."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._words: Words | None = None
        self._written = asyncio.Event()
        self.writable: Callable[[], None] = lambda: None

    @property
    def takes(self) -> bool:
        return self._words is None

    def write(self, words: Words) -> None:
        self._words = words
        self._written.set()

    async def run(self) -> None:
        """Sends, until cancelled."""
        while True:
            await self._written.wait()
            self._written.clear()
            words = self._words
            assert words is not None
            await self._send({"type": "http.response.body", "body": words.text, "more_body": True})
            self._words = None
            self.writable()


async def until_gone(receive: Receive) -> None:
    """Waits until an ASGI server says that the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
