"""Cursors: what is encoded is read again, and nothing else is taken for a cursor."""

import datetime
from base64 import urlsafe_b64decode, urlsafe_b64encode
from zlib import crc32

import bson
import hypothesis
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.regex import Regex
from hypothesis import strategies as st

from api import cursors
from api.cursors import Cursor, WrongCursor

OWNER = cursors.owner("digest", "s:JFK|i:3")
DATE = datetime.datetime(2013, 2, 8, 14, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value", [None, 1, Int64(2**40), 1.5, Decimal128("1.50"), "text", True, DATE, ObjectId(), b"\1\2", {"a": 1}]
)
def test_a_position_of_any_type_is_read_again(value: object) -> None:
    cursor = Cursor(3, (value, "key"))
    assert cursors.decode(cursors.encode(cursor, OWNER), OWNER, 2) == cursor


def test_a_page_beyond_all_numbers_keeps_the_last_one() -> None:
    text = cursors.encode(Cursor(1_000_000, (1,)), OWNER)
    assert cursors.decode(text, OWNER, 1).number == 0xFFFF


@hypothesis.given(st.text(max_size=80))
def test_no_text_that_was_not_made_here_is_a_cursor(text: str) -> None:
    with pytest.raises(WrongCursor):
        cursors.decode(text, OWNER, 1)


def test_a_changed_letter_is_noticed() -> None:
    text = cursors.encode(Cursor(1, ("key",)), OWNER)
    for place in range(0, len(text) - 1, 3):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(WrongCursor):
            cursors.decode(text[:place] + other + text[place + 1 :], OWNER, 1)


def test_a_cursor_of_another_list_or_group_is_refused() -> None:
    text = cursors.encode(Cursor(1, ("key",)), OWNER)
    for other in (cursors.owner("digest", "s:LGA|i:3"), cursors.owner("another", "s:JFK|i:3")):
        with pytest.raises(WrongCursor, match="another list"):
            cursors.decode(text, other, 1)


def test_a_cursor_of_another_release_is_told_so() -> None:
    with pytest.raises(WrongCursor, match="another release"):
        cursors.decode(_forged(format_version=2, position=["key"]), OWNER, 1)


@pytest.mark.parametrize("position", [[], ["a", "b"], [Regex("a")], [["array"]], "text", None])
def test_a_position_that_no_sort_key_can_be_is_refused(position: object) -> None:
    with pytest.raises(WrongCursor):
        cursors.decode(_forged(format_version=1, position=position), OWNER, 1)


def test_what_is_no_document_is_refused() -> None:
    data = bytes((1,)) + OWNER + b"\0\1" + b"nonsense"
    text = urlsafe_b64encode(data + crc32(data).to_bytes(4, "big")).rstrip(b"=").decode()
    with pytest.raises(WrongCursor):
        cursors.decode(text, OWNER, 1)


def test_a_cursor_needs_no_escaping_in_a_url() -> None:
    text = cursors.encode(Cursor(1, ("?&=+/ ü",)), OWNER)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _forged(format_version: int, position: object) -> str:
    data = bytes((format_version,)) + OWNER + b"\0\1" + bson.encode({"": position})
    return urlsafe_b64encode(data + crc32(data).to_bytes(4, "big")).rstrip(b"=").decode()
