"""The latest version that can be real."""

from neverstale.consumers.records.horizon import AWAY_SECONDS, Horizon
from neverstale.errors import Outage
from neverstale.versions import Version


class MongoDB:
    def __init__(self, seconds: int, away: bool = False) -> None:
        self.seconds, self.away, self.asked = seconds, away, 0

    async def now(self) -> Version:
        self.asked += 1
        if self.away:
            raise Outage("mongodb", "no primary")
        return self.seconds << 32 | 7


class Clocks:
    def __init__(self, wall: float) -> None:
        self.at, self._wall = 100.0, wall

    def wall(self) -> float:
        return self._wall

    def clock(self) -> float:
        return self.at


def horizon(mongodb: MongoDB, clocks: Clocks) -> Horizon:
    return Horizon(mongodb.now, 5, clocks.wall, clocks.clock)


async def test_before_mongodb_has_answered_our_own_clock_must_do() -> None:
    assert horizon(MongoDB(0), Clocks(1_000)).latest() >> 32 == 1_005


async def test_then_it_is_the_clock_of_mongodb_however_far_from_ours_and_goes_on_with_the_time() -> None:
    clocks = Clocks(1_000)
    found = horizon(MongoDB(9_000), clocks)
    assert await found.ask() == 9_000 << 32 | 7
    clocks.at += 60
    assert found.latest() == 9_065 << 32 | 0xFFFFFFFF


async def test_while_mongodb_is_away_the_present_is_unknown_and_not_every_batch_asks_again() -> None:
    clocks, mongodb = Clocks(1_000), MongoDB(9_000, away=True)
    found = horizon(mongodb, clocks)
    assert [await found.ask(), await found.ask()] == [None, None]
    assert mongodb.asked == 1
    clocks.at, mongodb.away = clocks.at + AWAY_SECONDS, False
    assert await found.ask() is not None
