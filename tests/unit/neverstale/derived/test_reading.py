"""What readers make of the derived data that they find."""

from dataclasses import replace

from neverstale.derived.counters.fields import Group
from neverstale.derived.counters.held import all_groups, one_group
from neverstale.derived.rankings.held import Ranked, is_whole, ranked
from neverstale.derived.reading import page_floor
from neverstale.derived.redis_names import BEYOND, PRESENT
from tests.unit.neverstale.derived.test_generations import generation

BORN = replace(generation(), phase="building", birth=5)


def test_a_page_must_be_as_new_as_floor_birth_and_tags() -> None:
    version = b"%016x"
    assert page_floor(BORN, 3, [b"", None, None]) == 5
    assert page_floor(BORN, 7, [b"", None, None]) == 7
    assert page_floor(BORN, 3, [b"", version % 8, version % 6]) == 8
    assert page_floor(BORN, 3, [b"", version % 8, version % 9]) == 9


def test_a_page_of_which_anything_is_unknown_is_unknown() -> None:
    assert page_floor(BORN, 3, [None, None, None]) is None
    assert page_floor(BORN, None, [b"", None, None]) is None
    assert page_floor(replace(BORN, birth=None), 3, [b"", None, None]) is None


def test_a_missing_counter_is_unknown_and_a_missing_group_is_empty() -> None:
    assert one_group([None, None, None]) is None
    assert one_group([b"", None, None]) == Group(0, ())
    assert all_groups({}, 0) is None
    assert all_groups({PRESENT: b""}, 0) == {}


def test_a_counter_that_left_out_a_document_is_unknown() -> None:
    assert one_group([b"", b"1", b"7"]) is None
    assert all_groups({PRESENT: b"", BEYOND: b"1", b"n|x": b"7"}, 0) is None


def test_a_ranking_that_lost_members_is_unknown() -> None:
    assert is_whole([b"", None, b"2"], 2)
    assert is_whole([b"", None, None], 0)
    assert not is_whole([b"", None, b"2"], 0)
    assert not is_whole([None, None, None], 0)
    assert not is_whole([b"", b"1", b"2"], 2)


def test_the_highest_first_are_kept_negated() -> None:
    assert ranked([(b"2k", -7.0), (b"2l", 0.0)], 3, descends=True) == [Ranked("s:k", 7.0, 3), Ranked("s:l", 0.0, 4)]
