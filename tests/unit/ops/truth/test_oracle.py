"""The oracle: it finds what is wrong, and accuses nobody who may be right."""

from math import nan

import pytest

from neverstale.ops.truth.oracle import ABSENT, NOBODY, Judgement, Read, Tally, Writes, compare, judge

KEY = 7


def written(*acknowledged: float, sent_before: float = 0.5, removals: tuple[int, ...] = ()) -> Writes:
    """Revisions 1, 2, ... of one key, acknowledged at these moments."""
    writes = Writes()
    for number, at in enumerate(acknowledged, 1):
        revision = writes.begin(KEY, at - sent_before, removal=number in removals)
        writes.acknowledge(KEY, revision, at, int(at))
    return writes


def read(revision: int, start: float, *, took: float = 0.1, bound: float = nan, answered: int = KEY) -> Read:
    return Read(KEY, answered, 1, revision, start, start + took, bound, 0)


def verdict_on(writes: Writes, *reads: Read) -> Judgement:
    return judge(writes, reads)


def test_the_newest_answer_is_right() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(2, 30.0, bound=0.0))
    assert verdict.clean and verdict.violated_bounds.checked == 1 and verdict.behind.wrong == 0


def test_an_answer_that_misses_a_write_older_than_its_bound_breaks_its_word() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(1, 22.0, bound=1.9))
    assert verdict.violated_bounds.wrong == 1 and not verdict.clean
    assert "misses 2" in verdict.violated_bounds.examples[0]


def test_an_answer_may_miss_what_its_bound_allows() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(1, 22.0, bound=2.1))
    assert verdict.clean and verdict.behind.wrong == 1


def test_what_happened_while_the_answer_was_under_way_is_undecided() -> None:
    # Acknowledged 1.0 before the question, 1.5 before the answer arrived, bound 1.2: it depends on when it was made.
    verdict = verdict_on(written(10.0, 20.0), read(1, 21.0, took=0.5, bound=1.2))
    assert verdict.clean and verdict.undecided_bounds == 1


def test_an_answer_without_a_bound_promises_nothing_and_is_counted_apart() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(1, 99.0))
    assert verdict.unknown_bounds == 1 and verdict.violated_bounds.checked == 0


def test_a_write_of_unknown_outcome_may_be_seen_or_missed() -> None:
    writes = written(10.0)
    writes.begin(KEY, 20.0)
    verdict = verdict_on(writes, read(1, 30.0, bound=0.0), read(2, 31.0, bound=0.0))
    assert verdict.clean


def test_who_writes_a_key_out_of_turn_is_told_so() -> None:
    writes = written(10.0)
    first, second = writes.begin(KEY, 20.0), writes.begin(KEY, 20.1)
    writes.acknowledge(KEY, second, 20.2, 20)
    with pytest.raises(ValueError, match="out of turn"):
        writes.acknowledge(KEY, first, 20.3, 21)


def test_an_absence_is_explained_by_a_removal() -> None:
    verdict = verdict_on(written(10.0, 20.0, removals=(2,)), read(ABSENT, 30.0, bound=0.0))
    assert verdict.clean


def test_an_absence_without_a_removal_misses_the_write() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(ABSENT, 30.0, bound=1.0))
    assert verdict.violated_bounds.wrong == 1


def test_an_absence_after_the_document_came_back_misses_the_write() -> None:
    verdict = verdict_on(written(10.0, 20.0, 30.0, removals=(2,)), read(ABSENT, 40.0, bound=1.0))
    assert verdict.violated_bounds.wrong == 1


def test_a_removed_document_that_is_still_shown_misses_the_removal() -> None:
    verdict = verdict_on(written(10.0, 20.0, removals=(2,)), read(1, 30.0, bound=1.0))
    assert verdict.violated_bounds.wrong == 1


def test_an_absence_cannot_be_explained_by_a_removal_that_had_not_begun() -> None:
    verdict = verdict_on(written(10.0, 20.0, removals=(2,)), read(ABSENT, 15.0, bound=1.0))
    assert verdict.violated_bounds.wrong == 1


def test_a_key_that_nobody_wrote_may_be_absent() -> None:
    assert verdict_on(Writes(), read(ABSENT, 1.0, bound=0.0)).clean


def test_an_answer_of_another_key_is_foreign() -> None:
    verdict = verdict_on(written(10.0), read(1, 20.0, answered=KEY + 1), read(1, 21.0, answered=NOBODY))
    assert verdict.foreign.wrong == 2 and verdict.foreign.checked == 2 and not verdict.clean


def test_a_revision_that_nobody_had_begun_to_write_is_found() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(2, 15.0))
    assert verdict.unwritten.wrong == 1 and not verdict.clean


def test_a_write_may_be_seen_before_it_is_acknowledged() -> None:
    assert verdict_on(written(10.0, 20.0), read(2, 19.6)).clean


def test_a_reader_that_sees_an_older_revision_than_before_is_reported() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(2, 30.0), read(1, 31.0), read(2, 32.0))
    assert verdict.backwards.wrong == 1 and verdict.clean


def test_readers_are_not_compared_with_each_other() -> None:
    other = read(1, 31.0)._replace(reader=2)
    assert verdict_on(written(10.0, 20.0), read(2, 30.0), other).backwards.wrong == 0


def test_staleness_is_counted_to_the_last_read_that_misses_a_write() -> None:
    verdict = verdict_on(written(10.0, 20.0), read(1, 20.5), read(1, 21.0), read(2, 22.0))
    assert verdict.staleness == {(KEY, 2): pytest.approx(1.0)}


def test_a_read_that_misses_two_writes_is_stale_by_both() -> None:
    verdict = verdict_on(written(10.0, 20.0, 21.0), read(1, 23.0))
    assert verdict.staleness == {(KEY, 2): pytest.approx(3.0), (KEY, 3): pytest.approx(2.0)}


def test_the_last_version_is_the_latest_of_all_acknowledgements() -> None:
    assert written(10.0, 30.0).last_version == 30


def test_after_convergence_every_difference_is_found() -> None:
    stored = {"a": {"rev": 2}, "b": {"rev": 1}, "c": {"rev": 1}}
    answered = {"a": {"rev": 1}, "b": {"rev": 1}, "d": {"rev": 1}}
    tally = compare(stored, answered, "abcde")
    assert (tally.wrong, tally.checked) == (3, 5)  # a is old, c is missing, d should be gone; e is absent in both


def test_examples_are_few() -> None:
    assert len(compare(dict.fromkeys(range(100), 1), {}, range(100)).examples) == 5  # type: ignore[arg-type]


def test_none_wrong_of_n_means_at_most_three_in_n() -> None:
    assert Tally(0, 3_000_000).at_most == pytest.approx(1e-6)
    assert Tally().at_most == 1.0
