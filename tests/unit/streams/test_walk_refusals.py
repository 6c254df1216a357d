"""Walks that a server refuses: tried ever more seldom, each by itself, and at once after what ends by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NoReturn, cast
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from structlog.testing import capture_logs

from neverstale.errors import KafkaRefuses, Outage, Refused, Stop
from neverstale.kafka.refusals import as_ours
from neverstale.kafka.topic import Topic
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walk
from neverstale.role.retry import LONGEST_REFUSED_SECONDS
from neverstale.settings import Settings
from neverstale.streams import walk as walking
from neverstale.streams.publisher import Publisher
from neverstale.streams.walk import LOOK_SECONDS, Walker
from tests.support.clock import Clock

WALK = Walk("resync", "flights", "flights", "r1")
OTHER = Walk("rebuild", "flights", "flights", "g1")
NO_RIGHTS = as_ours(TopicAuthorizationFailedError("t"), Settings().kafka)
CAPPED = Refused(246, "SnapshotUnavailable", "collection", "it is capped", heals=False)


class Tried:
    """How often a walk begins, looked for as the walker looks, while it fails so."""

    def __init__(self, clock: Clock, walker: Walker) -> None:
        self.clock, self.walker, self.at = clock, walker, list[float]()
        self.error: Exception | None = NO_RIGHTS

    async def topic(self, _: Any) -> Topic:
        self.at.append(self.clock.now)
        if self.error is not None:
            raise self.error
        raise AssertionError("nothing is to be published here")

    async def looking(self, walk: Walk, seconds: float) -> list[float]:
        """The times at which it was tried."""
        self.at.clear()
        end = self.clock.now + seconds
        while self.clock.now < end:
            with capture_logs():
                await self.walker._attempt(walk)
            self.clock.now += LOOK_SECONDS
        return self.at


@pytest.fixture
def walker(clock: Clock) -> Walker:
    loader = Mock(spec=Loader)
    loader.now, loader.count = AsyncMock(return_value=7 << 32), AsyncMock(return_value=3)
    return Walker(MagicMock(), "nyc", ("flights",), cast("Loader", loader), Settings().kafka, lambda: True, clock)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, clock: Clock, walker: Walker) -> Tried:
    found = Tried(clock, walker)
    monkeypatch.setattr(walking, "ensure_topic", found.topic)
    return found


@pytest.mark.parametrize("error", [NO_RIGHTS, CAPPED, ExceptionGroup("", [ExceptionGroup("", [NO_RIGHTS])])])
async def test_what_a_server_refuses_is_tried_ever_more_seldom(tried: Tried, error: Exception) -> None:
    tried.error = error
    times = await tried.looking(WALK, 600)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] <= 2 * LOOK_SECONDS
    assert LONGEST_REFUSED_SECONDS / 2 <= pauses[-1] <= LONGEST_REFUSED_SECONDS + LOOK_SECONDS
    assert len(times) < 600 / LONGEST_REFUSED_SECONDS * 2 + 10


async def test_an_outage_is_tried_again_at_every_look(tried: Tried) -> None:
    tried.error = Outage("kafka", "away")
    assert len(await tried.looking(WALK, 60)) == 60 / LOOK_SECONDS


async def test_one_walk_that_is_refused_delays_no_other(tried: Tried) -> None:
    await tried.looking(WALK, 120)
    assert (await tried.looking(OTHER, LOOK_SECONDS)) != []


async def test_what_only_a_person_can_mend_ends_the_watcher(tried: Tried) -> None:
    tried.error = Stop("a human must act")
    with pytest.raises(Stop):
        await tried.looking(WALK, 1)


class Deaf:
    """A publisher whose first batch is refused while the walk waits for its acknowledgement."""

    partitions, largest_record = 1, 1000

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.put: Callable[..., None] = Mock()
        self.put_everywhere: Callable[..., None] = Mock()

    async def run(self) -> NoReturn:
        raise ExceptionGroup("lanes", [self._error])

    def flush(self) -> Any:
        return Mock(acknowledged=asyncio.get_running_loop().create_future())


async def test_a_batch_that_is_refused_ends_the_wait_for_it_at_once(
    monkeypatch: pytest.MonkeyPatch, walker: Walker, clock: Clock
) -> None:
    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[Deaf]:
        yield Deaf(NO_RIGHTS)

    monkeypatch.setattr(walking, "ensure_topic", AsyncMock(return_value=Topic("t", 1, created=False, complaint=None)))
    monkeypatch.setattr(Publisher, "open", opened)
    monkeypatch.setattr(walker._walks, "note", AsyncMock(side_effect=lambda walk: walk))
    monkeypatch.setattr(walker, "_keys", AsyncMock(return_value=["s:a"]))
    assert isinstance(NO_RIGHTS, KafkaRefuses)
    with capture_logs() as logs:
        await walker._attempt(WALK)
    assert [(line["event"], line["reason"]) for line in logs if line["log_level"] == "warning"] == [
        ("walk_refused", str(NO_RIGHTS))
    ]
