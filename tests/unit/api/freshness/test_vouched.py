"""What a hearing vouches for, group by group."""

from neverstale.api.freshness.vouched import Vouched
from neverstale.api.reads.l1 import L1


def test_a_group_that_stands_still_lets_no_other_wait() -> None:
    vouched = Vouched()
    for group, version in (("a", 5), ("b", 6), ("a", 9)):
        vouched.vouch(version, group)
    found = {groups: vouched.watermark(groups) for groups in ("a", "b", "ab", "c", "ac")}
    assert found == {"a": 9, "b": 6, "ab": 6, "c": 0, "ac": 0}


def test_a_watermark_never_falls_and_the_first_of_a_group_is_told() -> None:
    vouched = Vouched()
    assert [vouched.vouch(version, "a") for version in (5, 4)] == [True, False]
    assert vouched.watermark(("a",)) == 5


def test_a_hearing_of_several_groups_is_one_as_long_as_none_of_them_broke() -> None:
    vouched = Vouched()
    vouched.vouch(5, "a")
    assert vouched.hearing(("a", "b")) is None
    vouched.vouch(5, "b")
    before = vouched.hearing(("a", "b"))
    vouched.vouch(6, "a")
    assert before is not None and vouched.hearing(("a", "b")) == before
    vouched.void()
    assert vouched.hearing(("a",)) is None
    vouched.vouch(7, "a")
    vouched.vouch(7, "b")
    assert vouched.hearing(("a", "b")) != before


def test_what_is_read_of_a_group_that_nobody_vouches_for_is_not_kept() -> None:
    l1 = L1(1 << 20, 60, groups=("a", "b"))
    l1.vouch(5, "a")
    for group, kept in (("a", True), ("b", False)):
        reading = l1.begin([b"k"], group)
        l1.keep(reading, b"k", group.encode(), b"tail")
        l1.end(reading)
        assert (l1.answers.get(group.encode()) is not None) == kept
    assert (l1.watermark, l1.watermark_of("a"), l1.watermark_of("b")) == (0, 5, 0)
