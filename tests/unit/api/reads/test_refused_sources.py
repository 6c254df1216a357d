"""What MongoDB refuses for now: when it is asked again, and what is said meanwhile."""

from neverstale.api.reads.refused_sources import LONGEST_PAUSE_SECONDS, Refusing
from neverstale.errors import Refused
from neverstale.role.service import Health

CAPPED = Refused(246, "SnapshotUnavailable", "collection", "copy it", heals=True)
FORBIDDEN = Refused(13, "Unauthorized", "user", "grant it", heals=False)
DEEP = Refused(15, "Overflow", "request", "", heals=False)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.health = Health()
        self.refusing = Refusing(self.health, lambda: self.now)

    def asked(self, refusal: Refused | None, seconds: float) -> int:
        """How often MongoDB is asked within so many seconds, if somebody wants a read each 10 ms."""
        asked = 0
        end = self.now + seconds
        while self.now < end:
            if self.refusing.probe("things") is None:
                asked += 1
                if refusal is None:
                    self.refusing.answered("things")
                else:
                    self.refusing.note("things", refusal)
            self.now += 0.01
        return asked


def test_mongodb_is_asked_less_and_less_often() -> None:
    world = World()
    assert world.asked(FORBIDDEN, 10) <= 5
    assert world.asked(FORBIDDEN, 1000) <= 1000 / LONGEST_PAUSE_SECONDS + 10


def test_what_may_pass_by_itself_is_asked_for_soon() -> None:
    world = World()
    assert 3 <= world.asked(CAPPED, 1) <= 6


def test_once_it_answers_nothing_is_refused_any_more() -> None:
    world = World()
    world.asked(FORBIDDEN, 100)
    world.now += LONGEST_PAUSE_SECONDS
    assert world.refusing.of("things") is None
    assert world.asked(None, 1) >= 100
    assert not world.refusing.reasons
    assert not world.health.parts


def test_it_is_said_with_code_and_remedy() -> None:
    world = World()
    world.refusing.note("things", FORBIDDEN)
    assert world.refusing.reasons == {"things": "13 Unauthorized; grant it"}
    assert world.health.parts == {"things": "MongoDB refuses it: 13 Unauthorized; grant it"}
    assert world.refusing.of("things") is FORBIDDEN
    assert world.refusing.of("others") is None


def test_reads_that_were_under_way_together_count_once() -> None:
    world = World()
    for _ in range(16):
        world.refusing.note("things", FORBIDDEN)
    world.now = 1.5
    assert world.refusing.probe("things") is None


def test_only_one_asks_when_the_pause_is_over() -> None:
    world = World()
    world.refusing.note("things", FORBIDDEN)
    world.now = 1.5
    assert [world.refusing.probe("things") for _ in range(3)] == [None, FORBIDDEN, FORBIDDEN]


def test_an_error_of_one_request_refuses_nothing_to_others() -> None:
    world = World()
    world.refusing.note("things", DEEP)
    assert world.refusing.of("things") is None
    assert not world.health.parts
