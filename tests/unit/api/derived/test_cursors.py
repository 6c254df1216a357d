"""Cursors: what is encoded is read again, and nothing else is taken for a cursor."""

import contextlib
import datetime
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import bson
import hypothesis
import pytest
from bson.binary import Binary
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import strategies as st

from neverstale.api.derived import cursors
from neverstale.api.derived.cursors import Cursor, WrongCursor
from neverstale.bson.values import decode, element
from tests.properties.raw_bson import ODD, Value, document

OWNER = cursors.owner("digest", "s:JFK|i:3")
DATE = datetime.datetime(2013, 2, 8, 14, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value", [None, 1, Int64(2**40), 1.5, Decimal128("1.50"), "text", True, DATE, ObjectId(), b"\1\2", {"a": 1}]
)
def test_a_position_of_any_type_is_read_again(value: object) -> None:
    cursor = Cursor(3, (value, "key"))
    assert cursors.decode(made(cursor), OWNER, 2) == cursor


def test_a_page_beyond_all_numbers_keeps_the_last_one() -> None:
    text = made(Cursor(1_000_000, (1,)))
    assert cursors.decode(text, OWNER, 1).number == 0xFFFF


@hypothesis.given(st.text(max_size=80))
def test_no_text_that_was_not_made_here_is_a_cursor(text: str) -> None:
    with pytest.raises(WrongCursor):
        cursors.decode(text, OWNER, 1)


def test_a_changed_letter_is_noticed() -> None:
    text = made(Cursor(1, ("key",)))
    for place in range(0, len(text) - 1, 3):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(WrongCursor):
            cursors.decode(text[:place] + other + text[place + 1 :], OWNER, 1)


def test_a_cursor_of_another_list_or_group_is_refused() -> None:
    text = made(Cursor(1, ("key",)))
    for other in (cursors.owner("digest", "s:LGA|i:3"), cursors.owner("another", "s:JFK|i:3")):
        with pytest.raises(WrongCursor, match="another list"):
            cursors.decode(text, other, 1)


def test_a_cursor_that_was_signed_with_another_secret_is_refused() -> None:
    signed = cursors.owner("digest", "s:JFK|i:3", b"a secret of 16 bytes")
    for ours, theirs in ((signed, OWNER), (OWNER, signed)):
        with pytest.raises(WrongCursor):
            cursors.decode(made(Cursor(1, ("key",)), theirs), ours, 1)


def test_who_does_not_know_the_secret_cannot_sign() -> None:
    signed = cursors.owner("digest", "s:JFK|i:3", b"a secret of 16 bytes")
    data = bytearray(unpacked(made(Cursor(1, ("key",)), signed)))
    data[-12] ^= 1
    for forged in (packed(bytes(data)), packed(bytes(data[:-8]), signed[:6] + OWNER[6:])):
        with pytest.raises(WrongCursor, match="cut off"):
            cursors.decode(forged, signed, 1)


def test_a_cursor_of_another_release_is_told_so() -> None:
    with pytest.raises(WrongCursor, match="this release"):
        cursors.decode(forged(bson.encode({"": ["key"]}), format_version=1), OWNER, 1)


@pytest.mark.parametrize("position", [[], ["a", "b"], "text", None])
def test_a_position_that_no_sort_key_can_be_is_refused(position: object) -> None:
    with pytest.raises(WrongCursor):
        cursors.decode(forged(bson.encode({"": position})), OWNER, 1)


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(WrongCursor):
        cursors.decode(forged(b"nonsense"), OWNER, 1)


def nested(levels: int) -> bytes:
    """The BSON of a position that is one document of so many levels, as no driver writes it."""
    inner = bson.encode({})
    for kind, name in [*[(b"\3", b"a")] * (levels - 1), (b"\3", b"0"), (b"\4", b"")]:
        inner = (len(inner) + len(name) + 7).to_bytes(4, "little") + kind + name + b"\0" + inner + b"\0"
    return inner


def test_no_caller_can_ask_for_more_levels_than_a_command_may_have() -> None:
    assert len(cursors.decode(forged(nested(180)), OWNER, 1).position) == 1
    for levels in (181, 190, 198, 250, 1_500):
        with pytest.raises(WrongCursor):
            cursors.decode(forged(nested(levels)), OWNER, 1)


@hypothesis.given(st.data())
def test_whatever_a_forger_writes_is_a_cursor_or_said_to_be_none(data: st.DataObject) -> None:
    """DBRef look-alikes, UUIDs of 36 bytes and strings that are no UTF-8 included."""
    odd = [{"$ref": 1, "$id": {}}, {"$ref": "a"}, Binary(b"x" * 36, 4), "caf\xe9", Decimal128("1E+5000"), DATE]
    position = bytearray(bson.encode({"": [data.draw(st.sampled_from(odd)), 1]}))
    for _ in range(data.draw(st.integers(0, 3))):
        position[data.draw(st.integers(0, len(position) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WrongCursor):
        cursors.decode(forged(bytes(position)), OWNER, 2)


def test_a_position_of_as_many_levels_as_a_document_may_have_is_read_again() -> None:
    deep: object = 1
    for _ in range(179):
        deep = {"a": deep}
    text = made(Cursor(3, (deep, "key")))
    assert cursors.decode(text, OWNER, 2).position == (deep, "key")


def test_what_is_handed_out_is_accepted_up_to_the_last_size_and_nothing_larger_is_handed_out() -> None:
    sizes = range(18_300, 18_440)
    texts = [cursors.encode(Cursor(1, ("x" * size,)), OWNER) for size in sizes]
    assert {text is None for text in texts} == {True, False}
    for text, size in zip(texts, sizes, strict=True):
        if text is not None:
            assert cursors.decode(text, OWNER, 1).position == ("x" * size,)


def test_a_cursor_needs_no_escaping_in_a_url() -> None:
    text = made(Cursor(1, ("?&=+/ ü",)))
    assert text.replace("-", "").replace("_", "").isalnum()
    assert urlsafe_b64decode(text + "=" * (-len(text) % 4))


def made(cursor: Cursor, owner: bytes = OWNER) -> str:
    text = cursors.encode(cursor, owner)
    assert text is not None
    return text


def unpacked(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def packed(data: bytes, owner: bytes | None = None) -> str:
    """`owner`: who signs."""
    signature = blake2b(data, digest_size=8, key=owner[6:]).digest() if owner is not None else b""
    return urlsafe_b64encode(data + signature).rstrip(b"=").decode()


def forged(position: bytes, format_version: int = cursors.FORMAT) -> str:
    """What anybody can make where there is no secret."""
    return packed(bytes((format_version,)) + OWNER[:6] + b"\0\1" + position, OWNER)


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_a_cursor_at_any_value_is_one_that_is_accepted(value: Value) -> None:
    position = decode(document(value.named("v")))["v"], "key"
    text = cursors.encode(Cursor(1, position), OWNER)
    assert text is not None
    found = cursors.decode(text, OWNER, 2).position
    assert [element(b"", one) for one in found] == [element(b"", one) for one in position]
