"""Feeds against everything that may go wrong around them, in one process and by chance: announcements that are lost,
reads that are answered with old states, fail or take long, clients that stop reading.

The last state always arrives, none is older than one before it, and none is older than what is said of it. Without
any one of the rules of `RULES` that is not so.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from neverstale.api.callers.caller import ANYBODY
from neverstale.api.live.events import Words
from neverstale.api.live.feed import LiveFeed
from neverstale.api.live.feeds import Feeds
from neverstale.api.live.streams import LiveStream
from neverstale.api.live.subjects import SubjectAnswer
from neverstale.api.reads.answer import Answer, Wish
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Outage
from neverstale.role.tasks import Tasks
from neverstale.settings import LiveSettings

NAME: Final = b"ns:things:d:s:a"
STEPS: Final = 120
SETTINGS: Final = LiveSettings(state_interval_ms=0, unheard_interval_ms=100, bound_interval_ms=100)


@dataclass
class Truth:
    """What was written, applied and marked. Versions count up; each write is of the one document."""

    chance: random.Random
    written: int = 0
    applied: int = 0
    marked: int = 0
    hears: bool = False
    """Announcements reach us."""
    failing: bool = False

    def state(self, version: int) -> Answer:
        body = b"%d" % version
        return Answer(body, body, version, version, "miss", "mongodb")


@dataclass
class OneDocument:
    """The subject. Redis answers with what is applied; MongoDB with anything that is not older than it must be."""

    truth: Truth
    name: str = "things"
    identity: str = "a"
    absence: bytes = b"{}"
    names: frozenset[bytes] = frozenset((NAME,))
    groups: tuple[str, ...] = (DEFAULT_GROUP,)
    is_told: bool = True

    def told(self) -> str | None:
        return "documents" if self.is_told else None

    def count_read(self) -> None: ...

    async def get(self, wish: Wish) -> SubjectAnswer:
        truth, chance = self.truth, self.truth.chance
        known = truth.marked
        least = max(wish.announced, wish.min_version)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if truth.failing or chance.random() < 0.1:
            raise Outage("mongodb", "by chance")
        if chance.random() < 0.5 and max(truth.applied, known) >= wish.min_version:
            version = truth.applied
            found = Answer(b"%d" % version, b"%d" % version, version, max(version, known), "hit", "l2")
        else:
            found = truth.state(chance.randint(min(least, truth.written), truth.written))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        return SubjectAnswer(found, self.names)


@dataclass
class Screen:
    """A wire, and what the client has seen."""

    open: bool = True
    seen: list[int] = field(default_factory=list)

    @property
    def takes(self) -> bool:
        return self.open

    def write(self, words: Words) -> None:
        assert self.open, "nothing is written to who does not read"
        for line in words.text.split(b"\n"):
            if line.startswith(b"data: ") and line[6:].isdigit():
                self.seen.append(int(line[6:]))


class World:
    """One feed, its streams, and a channel that breaks."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.truth = Truth(self.chance)
        self.wrong: list[str] = []
        self.feeds = Feeds(SETTINGS, Tasks(), self._bound)
        self.subject = OneDocument(self.truth)
        self.screens: list[Screen] = []
        self.streams: list[LiveStream] = []
        self._shown: LiveFeed | None = None

    def _bound(self, complete: int) -> float:
        """Called when something is about to be said of the feed's state: it must miss nothing up to `complete`."""
        assert self._shown is not None
        state = self._shown.state
        if state is not None and state.version < min(complete, self.truth.written):
            self.wrong.append(f"{state.version} is said to miss nothing up to {complete}")
        return 0.0

    async def watched(self) -> None:
        self.truth.written = self.truth.applied = self.truth.marked = 1
        feed = self._shown = self.feeds.feed(self.subject)
        while feed.state is None:
            with suppress(Outage):
                await feed.settled()
        for _ in range(3):
            screen = Screen()
            stream = LiveStream(feed, self.feeds, screen, ANYBODY)
            self.feeds.join(feed, stream)
            stream.writable()
            self.screens.append(screen)
            self.streams.append(stream)

    async def run(self) -> None:
        await self.watched()
        looking = [asyncio.create_task(self.feeds.keep_looking()), asyncio.create_task(self.feeds.keep_telling())]
        for _ in range(STEPS):
            getattr(self, self.chance.choice(STEP_NAMES))()
            for _ in range(self.chance.randrange(3)):
                await asyncio.sleep(0)
        await self._calm()
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        for screen in self.screens:
            if not screen.seen or screen.seen[-1] != self.truth.written:
                self.wrong.append(f"the last state, {self.truth.written}, did not arrive: {screen.seen[-3:]}")
            if screen.seen != sorted(screen.seen):
                self.wrong.append(f"went back: {screen.seen}")

    async def _calm(self) -> None:
        """All is applied and marked, the channel is heard, everybody reads."""
        for screen, stream in zip(self.screens, self.streams, strict=True):
            screen.open = True
            stream.writable()
        self.truth.failing = False
        self.apply()
        if not self.truth.hears:
            self.listen()
        self.mark()
        for _ in range(150):
            if all(screen.seen and screen.seen[-1] == self.truth.written for screen in self.screens):
                return
            await asyncio.sleep(0.005)

    # --- steps

    def write(self) -> None:
        self.truth.written += 1

    def apply(self) -> None:
        if self.truth.applied < self.truth.written:
            self.truth.applied = self.truth.written
            if self.truth.hears:
                self.feeds.hear(self.truth.applied)
                self.feeds.changed(NAME)

    def mark(self) -> None:
        self.truth.marked = self.truth.applied
        if self.truth.hears:
            self.feeds.vouch(self.truth.marked)

    def lose(self) -> None:
        self.truth.hears = False
        self.feeds.void()

    def listen(self) -> None:
        self.truth.hears = True

    def stop_reading(self) -> None:
        self.chance.choice(self.screens).open = False

    def read_on(self) -> None:
        place = self.chance.randrange(len(self.screens))
        self.screens[place].open = True
        self.streams[place].writable()

    def fail(self) -> None:
        self.truth.failing = True

    def recover(self) -> None:
        self.truth.failing = False


STEP_NAMES: Final = (
    *("write", "apply", "apply", "mark") * 3,
    *("lose", "listen", "stop_reading", "read_on", "fail", "recover", "listen", "recover"),
)


async def wrong_in(seeds: range) -> list[str]:
    worlds = [World(seed) for seed in seeds]
    await asyncio.gather(*(world.run() for world in worlds))
    return [sentence for world in worlds for sentence in world.wrong]


async def test_the_last_state_arrives_time_never_goes_back_and_nothing_is_older_than_said() -> None:
    assert await wrong_in(range(40)) == []


@contextmanager
def changed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


_wake: Final = LiveFeed.wake

RULES: Final[dict[str, tuple[Any, str, Any]]] = {
    "what was not heard is read again": (LiveFeed, "is_doubtful", property(lambda feed: False)),
    "a channel that broke vouches for nothing": (Feeds, "void", lambda feeds: None),
    "a state that is being read again is not vouched for": (
        LiveFeed,
        "complete",
        property(lambda feed: max(feed._complete, feed._vouched)),
    ),
    "reads of MongoDB miss nothing that was announced": (Feeds, "hear", lambda feeds, at: None),
    "what is announced while it is read is read again": (
        LiveFeed,
        "wake",
        lambda feed, at: None if feed._reading else _wake(feed, at),
    ),
}


@pytest.mark.parametrize("rule", RULES)
async def test_without_any_of_its_rules_it_does_not_hold(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, value = RULES[rule]
    with changed(monkeypatch, owner, name, value):
        assert await wrong_in(range(40)) != []
