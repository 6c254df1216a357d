"""Live reads over ASGI: from a request to a stream, and to its end."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.caller import ANYBODY, Caller
from neverstale.api.callers.middleware import visit_of
from neverstale.api.live import events
from neverstale.api.live.demands import live_wish, wants_events
from neverstale.api.live.events import EVENT_HEADERS, Words
from neverstale.api.live.feed import LiveFeed
from neverstale.api.live.feeds import Feeds
from neverstale.api.live.places import StreamPlaces
from neverstale.api.live.streams import AsgiWire, ConnectionWire, LiveStream, StreamConnection, until_gone
from neverstale.api.live.subjects import LiveSubject
from neverstale.api.reads.answer import Wish
from neverstale.api.state import State, state_of
from neverstale.api.web.responses import ReadyResponse
from neverstale.api.web.unread import CLIENT
from neverstale.role.tasks import cancelled
from neverstale.settings import LiveSettings

SubjectOf = Callable[[Scope], LiveSubject]


class LiveOr:
    """An endpoint that answers with a stream where one is wanted, else as the endpoint that it is given."""

    def __init__(self, endpoint: ASGIApp, subject_of: SubjectOf) -> None:
        """`subject_of` raises a `Problem` if the request makes no sense."""
        self._endpoint = endpoint
        self._subject_of = subject_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not wants_events(scope["headers"]):
            await self._endpoint(scope, receive, send)
            return
        subject, wish = self._subject_of(scope), live_wish(scope["headers"])
        if scope["method"] == "HEAD":
            await ReadyResponse(200, list(EVENT_HEADERS))(scope, receive, send)
            return
        live = state_of(scope).live
        await live.run(subject, wish, scope, receive, send)


class LiveReads:
    """The live reads of one process."""

    def __init__(self, feeds: Feeds, places: StreamPlaces, settings: LiveSettings, random: Random) -> None:
        self.feeds = feeds
        self.places = places
        self._retry_ms = settings.retry_ms
        self._random = random
        self._draining = False

    async def run(self, subject: LiveSubject, wish: Wish, scope: Scope, receive: Receive, send: Send) -> None:
        """Streams until the client goes away, the process ends, or the caller is not believed any more. Raises what
        the first read raises. On a connection of ours it returns as soon as the stream has begun: a request that
        waits for its end would keep in memory all that has led to it."""
        if self._draining:
            # A browser that is refused never comes back; one whose stream has ended does.
            await self._begin(send)
            await self._end(send)
            return
        give_back = self.places.take(scope)
        feed = self.feeds.feed(subject)
        handed_over = False
        try:
            await self._settle(feed, wish, state_of(scope))
            await self._begin(send)
            connection, caller = _connection_of(scope), visit_of(scope).caller
            if connection is None:
                await self._over_asgi(feed, caller, receive, send)
            else:
                handed_over = True
                self._over_connection(feed, caller, connection, give_back)
        finally:
            self.feeds.leave(feed)
            if not handed_over:
                give_back()

    def drain(self) -> None:
        """Ends all streams, each with the time after which to come back."""
        self._draining = True
        self.feeds.end_all()

    def doubt_callers(self) -> None:
        """Other keys hold from now on: whoever has shown some shows them again."""
        for stream in list(self.feeds.streams):
            if stream.caller is not ANYBODY:
                stream.end("caller")

    async def _settle(self, feed: LiveFeed, wish: Wish, state: State) -> None:
        """Waits for a state that meets the wish."""
        await feed.settled()
        bound = state.freshness.bound(feed.complete) if wish.max_age_seconds is not None else None
        too_old = wish.max_age_seconds is not None and (bound is None or bound > wish.max_age_seconds)
        if too_old or wish.min_version > feed.complete:
            feed.offer((await feed.subject.get(wish)).answer)
        feed.subject.count_read()

    def _over_connection(
        self, feed: LiveFeed, caller: Caller, connection: StreamConnection, give_back: Callable[[], None]
    ) -> None:
        def ended(stream: LiveStream) -> None:
            give_back()
            if stream.why != "gone":
                connection.end_stream(Words(self._again()).chunk)

        stream = LiveStream(feed, self.feeds, ConnectionWire(connection), caller, ended)
        self.feeds.join(feed, stream)
        connection.begin_stream(stream.writable, stream.gone)
        stream.writable()

    async def _over_asgi(self, feed: LiveFeed, caller: Caller, receive: Receive, send: Send) -> None:
        wire, end = AsgiWire(send), asyncio.Event()
        stream = LiveStream(feed, self.feeds, wire, caller, lambda _: end.set())
        wire.writable = stream.writable
        sending = asyncio.create_task(wire.run(), name="live-send")
        gone = asyncio.create_task(until_gone(receive), name="live-client")
        gone.add_done_callback(lambda _: stream.gone())
        sending.add_done_callback(lambda _: stream.gone())
        self.feeds.join(feed, stream)
        try:
            stream.writable()
            await end.wait()
        finally:
            stream.gone()
            await cancelled(sending, gone)
        if stream.why != "gone":
            await self._end(send)

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(EVENT_HEADERS)})
        retry = events.retry(self._retry_ms)
        await send({"type": "http.response.body", "body": retry, "more_body": True})

    async def _end(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": self._again(), "more_body": False})

    def _again(self) -> bytes:
        """The next process shall not be asked by all at once."""
        return events.retry(round(self._retry_ms * self._random.uniform(0.5, 1.5)))


def _connection_of(scope: Scope) -> StreamConnection | None:
    reference = scope.get("state", {}).get(CLIENT)
    client: Any = reference() if reference is not None else None
    framed = scope["http_version"] == "1.1"
    return client if framed and isinstance(client, StreamConnection) else None
