"""Joining what was seen in Redis with what was written to MongoDB."""

from pathlib import Path

import pytest

from neverstale.ops.truth.corrections import LOST, MISSING, Sighting, join, read

KEY = b"ns:flights:d:s:1"


def seen(at: float, state: bytes = b"D", version: bytes = b"1") -> Sighting:
    return Sighting(at, state, version, KEY)


def test_a_served_entry_is_corrected_when_it_goes_stale() -> None:
    found = join([seen(1), seen(5.25, b"S", b"2")], {KEY: [(4.0, 5.0)]})
    assert found.seconds == [pytest.approx(0.25)] and found.unseen == 0


def test_a_correction_before_the_acknowledgement_counts_as_none() -> None:
    assert join([seen(1), seen(4.5, b"S")], {KEY: [(4.0, 5.0)]}).seconds == [0.0]


def test_a_newer_value_is_a_correction_too() -> None:
    assert join([seen(1), seen(6, version=b"2")], {KEY: [(4.0, 5.0)]}).seconds == [1.0]


def test_being_touched_is_no_correction() -> None:
    assert join([seen(1), seen(6), seen(7, b"S")], {KEY: [(4.0, 5.0)]}).seconds == [2.0]


def test_a_deleted_entry_is_corrected() -> None:
    assert join([seen(1), seen(6, MISSING)], {KEY: [(4.0, 5.0)]}).seconds == [1.0]


@pytest.mark.parametrize("before", [[], [seen(1, b"S")], [seen(1, b"L")], [seen(1, MISSING)]])
def test_a_write_to_an_entry_that_was_not_served_does_not_count(before: list[Sighting]) -> None:
    found = join([*before, seen(6, b"S")], {KEY: [(4.0, 5.0)]})
    assert found.seconds == [] and found.unseen == 0


def test_a_correction_that_never_came_is_counted() -> None:
    assert join([seen(1)], {KEY: [(4.0, 5.0)]}).unseen == 1


def test_nothing_is_known_across_a_lost_connection() -> None:
    lost = Sighting(4.5, LOST, b"", b"")
    found = join([seen(1), lost, seen(6, b"S")], {KEY: [(4.0, 5.0)]})
    assert found.seconds == [] and found.unseen == 0


def test_notes_cut_short_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"\0" * 10)
    assert list(read(tmp_path / "notes")) == []
