"""The readers: what they ask, and how they take down what they are told."""

from collections import Counter
from io import BytesIO
from math import isnan
from pathlib import Path

import orjson
import pytest

from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.gauges import Gauges
from neverstale.ops.demo.places import Places, places
from neverstale.ops.demo.readers import BOARD_LINES, BoardReader, Choice, Notes, screens
from neverstale.ops.demo.readlog import pack, reads
from neverstale.ops.http_client import HttpAnswer
from neverstale.ops.truth.oracle import ABSENT, NOBODY, Read


@pytest.fixture(scope="module")
def known() -> Places:
    return places(week())


@pytest.fixture
def reader(known: Places, tmp_path: Path) -> BoardReader:
    notes = Notes(BytesIO(), Gauges.create(tmp_path / "gauges"))
    return BoardReader(3, "http://127.0.0.1:1", known, notes, Choice(known, 1), iter(screens(known)))


def told(body: object, status: int = 200, **headers: str) -> HttpAnswer:
    return HttpAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, orjson.dumps(body))


def test_flights_come_first_and_ghosts_last(known: Places) -> None:
    assert known.resources[known.flights - 1] == "flights" and known.resources[known.flights] == "airlines"
    assert known.real == 6104 + 16 + 1458
    assert not set(known.keys[known.real :]) & {flight.key for flight in week().flights}


def test_every_path_is_different(known: Places) -> None:
    assert len(set(known.paths)) == len(known.keys)


def test_readers_mostly_look_at_flights_near_now(known: Places) -> None:
    choice = Choice(known, 1)
    asked = Counter(key for _ in range(5000) for key in choice.keys(3000))
    near = sum(count for key, count in asked.items() if abs(key - 3000) < 100)
    assert 0.5 < near / asked.total() < 0.95
    assert any(key >= known.real for key in asked) and any(known.flights <= key < known.real for key in asked)


@pytest.mark.parametrize("now", [0, 6103])
def test_all_keys_exist_at_both_ends_of_the_week(known: Places, now: int) -> None:
    choice = Choice(known, 2)
    assert all(0 <= key < len(known.keys) for _ in range(2000) for key in choice.keys(now))


def test_the_screens_of_the_week_show_every_flight_once(known: Places) -> None:
    assert [place for screen in screens(known) for place in screen] == list(range(known.flights))


def test_equal_seeds_make_equal_choices(known: Places) -> None:
    one, other = Choice(known, 5), Choice(known, 5)
    assert [list(one.keys(9)) for _ in range(100)] == [list(other.keys(9)) for _ in range(100)]


def test_a_document_is_noted_with_its_revision_and_its_bound(reader: BoardReader, known: Places) -> None:
    answer = told({"_id": known.keys[5], "rev": 7}, neverstale_bound="0.25", neverstale_version="00000000000000ff")
    assert reader.taken_down([5], answer, 1.0, 2.0) == [Read(5, 5, 3, 7, 1.0, 2.0, 0.25, 255)]


def test_an_absence_is_noted_as_one(reader: BoardReader) -> None:
    [read] = reader.taken_down([5], told({}, 404, neverstale_bound="unknown"), 1.0, 2.0)
    assert (read.answered, read.revision) == (5, ABSENT) and isnan(read.bound)


def test_an_answer_that_names_another_document_is_noted_as_it_is(reader: BoardReader, known: Places) -> None:
    [read] = reader.taken_down([5], told({"_id": known.keys[6], "rev": 1}), 1.0, 2.0)
    assert read.answered == 6


def test_an_answer_that_names_nothing_known_is_nobody(reader: BoardReader) -> None:
    [read] = reader.taken_down([5], told({"_id": "XX", "rev": 1}), 1.0, 2.0)
    assert read.answered == NOBODY


def test_items_are_noted_in_order_and_by_both_their_names(reader: BoardReader, known: Places) -> None:
    names = known.keys
    items = [
        {"key": names[1], "value": {"_id": names[1], "rev": 4}},
        {"key": names[2], "value": None},
        {"key": names[9], "value": {"_id": names[3], "rev": 4}},
        {"key": names[9], "value": None},
    ]
    noted = reader.taken_down([1, 2, 3, 4], told({"items": items}), 1.0, 2.0)
    assert [(read.answered, read.revision) for read in noted] == [(1, 4), (2, ABSENT), (9, 4), (9, ABSENT)]


def test_documents_that_nobody_writes_have_revision_zero(reader: BoardReader, known: Places) -> None:
    airline = known.flights
    [read] = reader.taken_down([airline], told({"_id": known.keys[airline], "name": "x"}), 1.0, 2.0)
    assert (read.answered, read.revision) == (airline, 0)


def test_notes_come_back_as_they_were_written(tmp_path: Path) -> None:
    noted = [Read(number, number, 1, -1, 1.5, 2.5, 0.1, 2**63) for number in range(5000)]
    (tmp_path / "log").write_bytes(b"".join(map(pack, noted)) + b"cut short")
    assert list(reads(tmp_path / "log")) == noted


def test_gauges_are_shared_through_their_file(tmp_path: Path) -> None:
    written = Gauges.create(tmp_path / "gauges")
    read = Gauges(tmp_path / "gauges")
    written["now"], written["hits"] = 6103, 2**40
    assert (read["now"], read["hits"], read["broken"]) == (6103, 2**40, 0)


def test_a_screen_of_the_board_is_asked_for_at_once(known: Places) -> None:
    choice = Choice(known, 3)
    assert BOARD_LINES in {len(choice.keys(100)) for _ in range(500)}
