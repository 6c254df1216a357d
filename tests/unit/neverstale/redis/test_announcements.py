"""What consumers announce is read as it was written."""

import pytest

from neverstale.redis.announcements import AnnouncedMarks, Announcement, Announcer, Unreadable, decode, group_name


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
