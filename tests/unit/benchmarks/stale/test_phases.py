"""When something was corrected, where Redis only says that it was modified."""

from benchmarks.stale.phases import first_after
from neverstale.ops.truth.corrections import MODIFIED, Sighting


def seconds(modified: list[float], writes: list[tuple[float, float]]) -> list[float]:
    return list(first_after([Sighting(at, MODIFIED, b"", b"k") for at in modified], {b"k": writes}))


def test_a_write_is_corrected_by_the_first_modification_after_it_was_sent() -> None:
    assert seconds([0.5, 1.75, 3.0], [(1.0, 1.5)]) == [0.25]


def test_a_correction_that_comes_before_the_acknowledgement_takes_no_time() -> None:
    assert seconds([1.25], [(1.0, 1.5)]) == [0.0]


def test_what_comes_after_the_next_write_is_no_correction_of_the_one_before() -> None:
    assert seconds([5.0], [(1.0, 1.5), (4.0, 4.5)]) == [0.5]
    assert seconds([], [(1.0, 1.5)]) == []
