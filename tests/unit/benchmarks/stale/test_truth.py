"""How late an answer is."""

import random

from benchmarks.stale.truth import Truth


def written() -> Truth:
    """Flight 1 has three revisions, acknowledged at 10, 20 and 30; the second is its absence."""
    truth = Truth()
    for revision, at in enumerate((10.0, 20.0, 30.0), 1):
        assert truth.begin(1, at - 0.5, removal=revision == 2) == revision
        truth.acknowledge(1, revision, at, 0)
    return truth


def test_an_answer_is_late_since_what_it_shows_was_replaced() -> None:
    truth = written()
    assert truth.late(1, 1, asked=26.0) == 6.0
    assert truth.late(1, 1, asked=19.0) == 0.0, "before it was replaced"
    assert truth.late(1, 3, asked=99.0) == 0.0
    assert truth.late(1, 4, asked=99.0) == 0.0, "newer than what was acknowledged"
    assert truth.late(2, 1, asked=99.0) == 0.0, "never written"


def test_an_absence_is_a_revision_too() -> None:
    truth = written()
    assert truth.late(1, None, asked=31.0) == 1.0
    assert truth.late(1, None, asked=29.0) == 0.0


def test_moments_are_those_since_a_phase_began() -> None:
    assert written().moments(15.0) == {1: [(19.5, 20.0), (29.5, 30.0)]}
    assert written().moments(99.0) == {}, "who was not written is not there"


def test_readers_ask_mostly_for_what_was_written_of_late() -> None:
    truth, dice = written(), random.Random(1)
    picked = [truth.pick(dice, 1000) for _ in range(1000)]
    assert 700 < picked.count(1) < 900
    truth.begin_phase()
    assert truth.written == set()
    assert [truth.pick(dice, 1000) for _ in range(100)].count(1) < 10
