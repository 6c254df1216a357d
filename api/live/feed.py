"""A feed: the state of one thing that somebody watches, read once for all who do.

    announced ─► dirty ─► read ─► another state? ─► written to every stream that can take it
                   ▲        │
                   └────────┴── announced again meanwhile, or failed

It holds one state and no queue. A stream that cannot take it now is given the one that is there when it can.

**What its bound rests on.** A state that was read misses nothing up to the answer's `complete`. It misses nothing up
to the watermark of the channel either, as long as one unbroken hearing has lasted since before the read, and nothing
was announced since: announcements precede their marks. As soon as one of these ends, the feed keeps what it knew.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from neverstale.api.live import events
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.web.problems import internal, of_error
from neverstale.errors import NeverstaleError
from neverstale.role import telemetry
from neverstale.role.tasks import looked_at
from neverstale.versions import Version

if TYPE_CHECKING:
    from neverstale.api.live.feeds import Feeds
    from neverstale.api.live.streams import LiveStream
    from neverstale.api.live.subjects import LiveSubject, SubjectAnswer

log = telemetry.logger(__name__)

STREAMS_A_TURN: Final = 100
"""So many are written to between two turns of the event loop: others wait for about a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveState:
    """What a feed shows."""

    version: Version
    etag: bytes | None
    """`None`: there is nothing."""
    block: bytes
    """As an event, without the line about its bound."""


class LiveFeed:
    """One thing that is watched. Every method belongs to the event loop of its `Feeds`."""

    __slots__ = (
        "_announced",
        "_complete",
        "_delivering",
        "_dirty",
        "_failed",
        "_hearing",
        "_home",
        "_next",
        "_reading",
        "_told",
        "_trouble",
        "_until",
        "guests",
        "names",
        "state",
        "streams",
        "subject",
    )

    def __init__(self, subject: "LiveSubject", home: "Feeds") -> None:
        self.subject = subject
        self.state: LiveState | None = None
        self.streams: dict[LiveStream, None] = {}
        self.guests = 0
        """Those who wait for the first state."""
        self.names: frozenset[bytes] = frozenset()
        """Under which `home` finds it."""
        self._home = home
        self._announced: Version = 0
        self._complete: Version = 0
        self._hearing: Hashable | None = None
        """The one that has lasted since before the last read; `None`: none has."""
        self._told: Hashable | None = None
        self._dirty = self._reading = self._failed = self._delivering = False
        self._trouble: bytes = b""
        """What streams were told of the last failure."""
        self._until = 0.0
        """Not read before, in monotonic seconds."""
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- what is known of its age

    @property
    def is_current(self) -> bool:
        """Whether announcements would have said so if it had changed since it was read."""
        return not (self._dirty or self._reading or self._failed) and self._is_heard

    @property
    def _is_heard(self) -> bool:
        if self._hearing is None or self._told is None:
            return False
        return self._hearing == self._home.vouched.hearing(self.subject.groups)

    @property
    def complete(self) -> Version:
        """The state misses no change up to here; 0: unknown."""
        return max(self._complete, self._vouched) if self.is_current else self._complete

    @property
    def _vouched(self) -> Version:
        return self._home.vouched.watermark(self.subject.groups)

    @property
    def is_doubtful(self) -> bool:
        """Whether a change may have been missed: then only another read can tell."""
        return self._failed or not self._is_heard or self._told != self.subject.told()

    def keep_complete(self) -> None:
        """What vouches for it ends now."""
        self._complete = self.complete

    # --- reading

    def wake(self, announced: Version) -> None:
        """It may have changed; nothing up to this version may be missing when it is read."""
        self.keep_complete()
        self._announced = max(self._announced, announced)
        self._dirty = True
        if not self._reading:
            self._reading = True
            self._home.start(self._read())

    async def settled(self) -> None:
        """Waits for the read that is under way, if there is one. Raises its error if there is no state."""
        if self.state is None and not self._reading:
            self.wake(self._home.announced)
        if self._reading:
            await asyncio.shield(self._next)

    async def _read(self) -> None:
        try:
            while self._dirty and (self.streams or self.guests):
                pause = self._until - monotonic()
                if pause > 0:
                    await asyncio.sleep(pause)
                await self._read_once()
                if self._failed:
                    break  # the next look at what is doubtful tries again
        finally:
            self._reading = False
            self._home.let_go(self)

    async def _read_once(self) -> None:
        async with self._home.reading:
            self._until = monotonic() + self._home.state_seconds
            home, self._dirty = self._home, False
            hearing, told = home.vouched.hearing(self.subject.groups), self.subject.told()
            try:
                answer, names = await self._answer()
            except Exception as error:
                self._fail(error)
                return
        telemetry.LIVE_READS.labels(self.subject.name, "answered").inc()
        self._failed, self._trouble = False, b""
        self._hearing, self._told = hearing, told if answer.complete else None
        self._complete = answer.complete
        self._show(answer)
        if names != self.names:
            if not names <= self.names:
                self._dirty = True  # what it has come to show may have changed before anybody listened for it
            home.rename(self, names)
        self._done().set_result(None)

    def _done(self) -> "asyncio.Future[None]":
        done, self._next = self._next, asyncio.get_running_loop().create_future()
        return done

    async def _answer(self) -> "SubjectAnswer":
        wish, shown = Wish(current=True, announced=self._announced), self.state
        found = await self.subject.get(wish)
        if shown is not None and found.answer.version < shown.version and answer_tag(found.answer) != shown.etag:
            # Redis has lost something: nobody may see time go backwards.
            found = await self.subject.get(replace(wish, min_version=shown.version))
        return found

    def _fail(self, error: Exception) -> None:
        done = self._done()
        telemetry.LIVE_READS.labels(self.subject.name, "failed").inc()
        self._failed = True
        if not isinstance(error, NeverstaleError):
            log.error("live_read_failed", source=self.subject.name, exc_info=error)
        if self.state is None:
            done.set_exception(error)
            looked_at(done)  # by nobody, perhaps
            return
        done.set_result(None)
        problem = of_error(error) if isinstance(error, NeverstaleError) else internal()
        said = events.trouble(problem.body)
        if said != self._trouble:
            self._trouble = said
            for stream in list(self.streams):
                stream.say(said)

    def offer(self, answer: Answer) -> None:
        """Takes over what was read for one of its guests, if it is newer."""
        shown = self.state
        assert shown is not None
        if answer.version < shown.version:
            return
        if answer_tag(answer) == shown.etag:
            self._complete = max(self._complete, answer.complete) if answer.complete else 0
            return
        self._complete, self._hearing = answer.complete, None
        self._show(answer)
        self.wake(self._home.announced)

    def _show(self, answer: Answer) -> None:
        tag = answer_tag(answer)
        if self.state is not None and self.state.etag == tag:
            return
        if answer.body is None:
            block = events.absent(answer.version, self.subject.absence)
        else:
            block = events.state(answer.version, answer.body)
        self.state = LiveState(answer.version, tag, block)
        if self.streams and not self._delivering:
            self._delivering = True
            self._home.start(self._deliver())

    # --- writing

    async def _deliver(self) -> None:
        """Writes the state to all streams that can take it; another one that comes meanwhile, to the rest."""
        try:
            while True:
                waiting = [stream for stream in self.streams if stream.wants(self.state)]
                if not waiting:
                    return
                started = monotonic()
                for first in range(0, len(waiting), STREAMS_A_TURN):
                    self.show_to(waiting[first : first + STREAMS_A_TURN])
                    await asyncio.sleep(0)
                # As much time as this took is left to others.
                self._until = max(self._until, monotonic() + (monotonic() - started))
        finally:
            self._delivering = False

    def show_to(self, streams: "list[LiveStream]") -> None:
        """Writes the state to these, as they can take it."""
        state = self.state
        assert state is not None
        words = events.Words(self._home.bound_line(self) + state.block)
        shown = sum([stream.show(state, words) for stream in streams])
        telemetry.LIVE_STATES.labels(self.subject.name).inc(shown)


def answer_tag(answer: Answer) -> bytes | None:
    """What tells two states apart."""
    return None if answer.body is None else answer.etag
