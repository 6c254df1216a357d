"""What one subscription has heard, and when that counts no more."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.hits.channel import BrokenSubscription, Channel, Hearing
from neverstale.api.live.feeds import Feeds
from neverstale.api.reads.l1 import L1
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.keys import Names
from neverstale.redis.announcements import AnnouncedMarks, Announcement, Announcer
from neverstale.role.damage import Damage
from neverstale.role.tasks import Tasks
from neverstale.settings import LiveSettings
from tests.support.damaged import LAST, patched


def hearing() -> Hearing:
    return Hearing("redis-1", lambda version, wall_ms: None, Damage())


def marks(version: int, *partitions: int, identity: str = "redis-1", count: int = 2) -> AnnouncedMarks:
    return AnnouncedMarks(identity, count, dict.fromkeys(partitions, (version, 1000)))


def test_the_watermark_is_the_lowest_once_all_partitions_were_heard() -> None:
    heard = hearing()
    heard.mark("p", marks(9, 0))
    assert heard.watermark() == 0
    heard.mark("q", marks(7, 1))
    assert heard.watermark() == 7


def test_a_mark_of_the_past_lowers_nothing() -> None:
    heard = hearing()
    heard.mark("p", marks(9, 0, 1))
    heard.mark("p", marks(5, 0, 1))
    assert heard.watermark() == 9


def test_a_missing_number_breaks_the_hearing() -> None:
    heard = hearing()
    heard.follows(Announcement("p", 5))
    with pytest.raises(BrokenSubscription):
        heard.follows(Announcement("p", 7))


def test_publishers_count_for_themselves_and_may_repeat() -> None:
    heard = hearing()
    for publisher, number in (("p", 5), ("q", 1), ("p", 6), ("p", 6), ("q", 2), ("p", 5), ("p", 7)):
        heard.follows(Announcement(publisher, number))


@pytest.mark.parametrize("what", [marks(9, 0, identity="redis-2"), marks(9, 0, count=3)])
def test_marks_of_another_redis_or_topic_break_the_hearing(what: AnnouncedMarks) -> None:
    heard = hearing()
    heard.mark("p", marks(8, 0, 1))
    with pytest.raises(BrokenSubscription):
        heard.mark("p", what)


def test_a_new_publisher_of_a_partition_breaks_the_hearing() -> None:
    heard = hearing()
    heard.mark("p", marks(8, 0, 1))
    with pytest.raises(BrokenSubscription):
        heard.mark("q", marks(9, 1))


CHANGES = Announcer("x").changes([b"ns:things:d:s:a"], ["things"])
MARKS = Announcer("x").marks("redis-1", 2, {0: (5, 10), 1: (6, 11)})


def feeds() -> Feeds:
    return Feeds(LiveSettings(), Tasks(), lambda complete: None)


@given(st.lists(patched(CHANGES) | patched(MARKS), max_size=5))
def test_no_message_ends_the_hearing(messages: list[bytes]) -> None:
    redis = Redis.from_url("redis://127.0.0.1:1")
    freshness = cast("GroupedFreshness", FreshnessOfOne())
    channel = Channel(redis, Names("ns"), L1(1 << 20, 60), freshness, 1.0, Damage(lambda: LAST), {}, feeds())
    channel._opened("redis-1")
    for message in messages:
        channel.hear(message)
    channel.hear(Announcer("true").marks("redis-1", 2, {0: (5, 10), 1: (6, 11)}))
    assert channel._l1.watermark or channel._hearing is not None


class FreshnessOfOne:
    identity = "redis-1"
    groups = (DEFAULT_GROUP,)

    def __init__(self) -> None:
        self.marks = self

    def on_void(self, call: object) -> None:
        pass

    def covers(self, group: str, coverage: str) -> bool:
        return True

    def note(self, version: int, wall_ms: int) -> None:
        pass


def test_a_publisher_that_does_not_cover_our_catalog_vouches_for_nothing() -> None:
    covered = {"", "0" * 16}
    heard = Hearing("redis-1", lambda *_: None, Damage(lambda: LAST), lambda group, coverage: coverage in covered)
    for coverage, watermark in (("", 8), ("f" * 16, 0), ("0" * 16, 8)):
        heard.mark("p", AnnouncedMarks("redis-1", 1, {0: (8, 10)}, coverage))
        assert heard.watermark() == watermark


def of_group(group: str, version: int, *partitions: int, count: int = 2) -> AnnouncedMarks:
    return AnnouncedMarks("redis-1", count, dict.fromkeys(partitions, (version, 1000)), group=group)


def test_each_watcher_group_is_heard_for_itself() -> None:
    heard = hearing()
    heard.mark("p", of_group("a", 9, 0, 1))
    heard.mark("q", of_group("b", 7, 0, count=3))
    heard.mark("r", of_group("b", 8, 1, count=3))
    assert (heard.watermark("a"), heard.watermark("b"), heard.watermark("c")) == (9, 0, 0)
    heard.mark("q", of_group("b", 5, 2, count=3))
    assert (heard.watermark("a"), heard.watermark("b")) == (9, 5)


def test_who_covers_too_little_of_one_group_vouches_for_the_others() -> None:
    heard = Hearing("redis-1", lambda *_: None, Damage(lambda: LAST), lambda group, coverage: group != "b")
    heard.mark("p", of_group("a", 9, 0, 1))
    heard.mark("q", of_group("b", 9, 0, 1))
    assert (heard.watermark("a"), heard.watermark("b")) == (9, 0)
