"""What consumers announce is read as it was written."""

import pytest
from hypothesis import given

from neverstale.redis.announcements import AnnouncedMarks, Announcement, Announcer, Unreadable, decode, group_name
from neverstale.role.damage import MOST_PARTITIONS
from tests.support.damaged import patched


def test_groups_are_announced_by_name() -> None:
    names = [group_name("things", "all", b"1f2e"), group_name("things", "all"), group_name("things")]
    assert names == ["things|all|1f2e", "things|all|*", "things|*|*"]
    assert decode(Announcer().groups(names)).groups == names


def test_announcements_are_read_as_they_were_written() -> None:
    announcer = Announcer("p")
    keys = ["ns:things:d:s:a", 'ns:things:d:s:"ü\n\0:']
    changes = announcer.changes([key.encode() for key in keys], ["things"])
    told = announcer.marks("redis-1", 4, {3: (9, 1000)})
    assert decode(changes) == Announcement("p", 1, keys, ["things"])
    assert decode(told) == Announcement("p", 2, marks=AnnouncedMarks("redis-1", 4, {3: (9, 1000)}))


@pytest.mark.parametrize(
    "message", [b"", b"{}", b"[]", b'{"by":"p"}', b'{"by":"p","n":1,"marks":[[0,"x",1]]}', b"\xff"]
)
def test_what_cannot_be_read_is_said_so(message: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(message)


CHANGES = Announcer("x").changes([b"ns:things:d:s:a"], ["things"])
MARKS = Announcer("x").marks("redis-1", 2, {0: (5, 10), 1: (6, 11)})


@given(patched(CHANGES) | patched(MARKS))
def test_any_message_is_an_announcement_or_unreadable(message: bytes) -> None:
    try:
        said = decode(message)
    except Unreadable:
        return
    assert all(isinstance(text, str) for text in (said.publisher, *said.keys, *said.floors, *said.groups))
    if said.marks is not None:
        assert max(said.marks.by_partition, default=0) < said.marks.partitions <= MOST_PARTITIONS
