"""Which state could be read by when."""

from hypothesis import given
from hypothesis import strategies as st

from neverstale.ops.auditor.judging.timeline import TRIM, SeenVersion, Timeline

SEEN = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), max_size=40)


@given(SEEN, st.integers(-1, 210))
def test_what_it_says_could_be_read_before_a_moment_had_been_seen_by_then(
    seen: list[tuple[int, int]], moment: int
) -> None:
    timeline, now = Timeline(apart_seconds=0), 0
    told: list[SeenVersion] = []
    for version, later in seen:
        now += later
        timeline.saw(version, now)
        told.append(SeenVersion(now, version))
    found = timeline.before(moment)
    by_then = [sample.version for sample in told if sample.at < moment]
    assert (found is None) == (not by_then)
    assert found is None or (found in told and found.at < moment and found.version == max(by_then))


def test_samples_behind_a_version_are_those_that_could_hold_what_it_misses() -> None:
    timeline = Timeline(apart_seconds=0)
    for number in range(1, 6):
        timeline.saw(number * 10, number)
    last = timeline.before(4.5)
    assert last == SeenVersion(4, 40)
    assert [sample.version for sample in timeline.beyond(15, last)] == [20, 30, 40]
    assert timeline.beyond(40, last) == []


def test_samples_that_come_too_fast_or_tell_nothing_new_are_left_out() -> None:
    timeline = Timeline(apart_seconds=1)
    for version, at in ((5, 0.0), (6, 0.5), (4, 2.0), (7, 3.0)):
        timeline.saw(version, at)
    assert (timeline.before(2.9), timeline.last, len(timeline)) == (SeenVersion(0.0, 5), 7, 2)


def test_what_mongodb_no_longer_keeps_is_forgotten() -> None:
    timeline = Timeline(keep_seconds=100, apart_seconds=0)
    for number in range(1, 3 * TRIM):
        timeline.saw(number, number)
    assert len(timeline) <= TRIM + 101
    assert timeline.last == 3 * TRIM - 1
