"""Reading entries: what the scripts write is read back, anything else is no entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.keys import digest
from neverstale.redis import entries
from neverstale.redis.entries import CorruptEntry, EntryState
from neverstale.versions import to_hex
from tests.support.lua_redis import LuaRedis

KEY = b"cache:flights:d:s:UA1"
DIGEST = digest(KEY)
TOKEN = b"a" * 16
BODY = b'{"_id":"UA1"}'
VERSIONS = st.integers(1, 2**64 - 2)


def leased() -> LuaRedis:
    redis = LuaRedis()
    redis.run("lease", [KEY], [TOKEN, 5000, "0" * 16, DIGEST])
    return redis


def filled(version: int, body: bytes | None = BODY) -> LuaRedis:
    redis = leased()
    if body is None:
        offer = (TOKEN, to_hex(version), "N", 60_000, DIGEST, entries.NO_ETAG, b"")
    else:
        offer = (TOKEN, to_hex(version), "D", 60_000, DIGEST, entries.etag_of(body), body)
    assert redis.run("fill", [KEY], offer) == [b"filled"]
    return redis


def invalidated(redis: LuaRedis, version: int, refresh: str = "n") -> LuaRedis:
    redis.run("invalidate", [KEY], [b"b" * 16, 5000, to_hex(version), refresh])
    return redis


def held(redis: LuaRedis) -> bytes:
    raw = redis.command("GET", KEY)
    assert isinstance(raw, bytes)
    return raw


@given(VERSIONS, st.binary().map(lambda inner: b"{" + inner + b"}"))
def test_a_filled_document_is_read_back(version: int, body: bytes) -> None:
    entry = entries.decode(held(filled(version, body)), DIGEST)
    assert entry == entries.Entry(EntryState.DATA, False, version, version, entries.etag_of(body), body, False)
    assert entry.fresh


@given(VERSIONS)
def test_a_filled_absence_is_read_back(version: int) -> None:
    entry = entries.decode(held(filled(version, None)), DIGEST)
    assert entry == entries.Entry(EntryState.ABSENT, False, version, version, entries.NO_ETAG, None, True)
    assert entry.fresh


def test_a_bare_lease_is_an_entry_without_an_answer() -> None:
    entry = entries.decode(held(leased()), DIGEST)
    assert entry == entries.Entry(EntryState.LEASE, False, 0, 0, entries.NO_ETAG, None, False)
    assert not entry.fresh


def test_a_stale_entry_keeps_what_it_held() -> None:
    entry = entries.decode(held(invalidated(filled(5), 7)), DIGEST)
    assert (entry.state, entry.version, entry.body_version, entry.body) == (EntryState.STALE, 7, 5, BODY)
    assert not entry.fresh


def test_a_stale_absence_is_still_known_to_have_been_one() -> None:
    entry = entries.decode(held(invalidated(filled(5, None), 7)), DIGEST)
    assert (entry.state, entry.body, entry.body_is_absence) == (EntryState.STALE, None, True)


def test_a_stale_lease_never_held_anything() -> None:
    entry = entries.decode(held(invalidated(leased(), 7)), DIGEST)
    assert (entry.state, entry.body, entry.body_is_absence) == (EntryState.STALE, None, False)


def test_an_entry_knows_that_it_was_touched() -> None:
    redis = filled(5)
    redis.run("touch", [KEY])
    assert entries.decode(held(redis), DIGEST).touched


def test_an_entry_of_another_key_is_corrupt() -> None:
    with pytest.raises(CorruptEntry):
        entries.decode(held(filled(5)), digest(KEY + b"2"))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 79, 80, 95])
def test_a_cut_header_is_corrupt(length: int) -> None:
    with pytest.raises(CorruptEntry):
        entries.decode(held(filled(5))[:length], DIGEST)


@pytest.mark.parametrize("length", range(entries.HEADER_BYTES, entries.HEADER_BYTES + len(BODY)))
def test_a_cut_body_is_corrupt(length: int) -> None:
    raw = held(filled(5))[:length]
    with pytest.raises(CorruptEntry):
        entries.decode(raw, DIGEST)
    assert not entries.is_current(raw, DIGEST, b"0" * 16, b"f" * 16)


def test_an_entry_of_a_version_that_cannot_be_true_is_corrupt() -> None:
    raw = held(filled(6))
    with pytest.raises(CorruptEntry):
        entries.decode(raw, DIGEST, latest=5)
    assert not entries.is_current(raw, DIGEST, b"0" * 16, to_hex(5).encode())
    assert entries.is_current(raw, DIGEST, b"0" * 16, to_hex(6).encode())


@given(st.integers(0, entries.HEADER_BYTES - 1), st.binary(min_size=1, max_size=40))
def test_no_header_that_counts_could_begin_another_line(at: int, patch: bytes) -> None:
    raw = held(filled(5))
    forged = raw[:at] + patch + raw[at + len(patch) :]
    if entries.is_current(forged, DIGEST, b"0" * 16, b"f" * 16):
        etag, version, _ = entries.facts_of_hit(forged)
        assert all(len(text) == 16 and not text.strip(b"0123456789abcdef") for text in (etag, version))
        entries.decode(forged, DIGEST)


@given(
    st.integers(0, entries.HEADER_BYTES + 1),
    st.sampled_from([b"", b"0", b"1", b"9", b"a", b"f", b"A", b"D", b"N", b"S", b"}", b"D1D", b"N0N", b"\xff"]),
    st.integers(0, 5),
    st.sampled_from([BODY, None]),
)
def test_bytes_that_count_are_those_that_decode_to_an_answer(
    at: int, patch: bytes, cut: int, body: bytes | None
) -> None:
    raw = held(filled(5, body))
    forged = raw[:at] + patch + raw[at + max(len(patch), 1) :]
    forged = forged[: len(forged) - cut]
    try:
        fresh = entries.decode(forged, DIGEST).fresh
    except (CorruptEntry, entries.DeclaredOtherwise):
        fresh = False
    assert entries.is_current(forged, DIGEST, b"0" * 16, b"f" * 16) == fresh


@pytest.mark.parametrize(("offset", "patch"), [(0, b"X"), (3, b"g"), (3, b"\xff"), (19, b"-"), (20, b" "), (4, b"_")])
def test_a_malformed_header_is_corrupt(offset: int, patch: bytes) -> None:
    raw = bytearray(held(filled(5)))
    raw[offset : offset + 1] = patch
    with pytest.raises(CorruptEntry):
        entries.decode(bytes(raw), DIGEST)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_corrupt(raw: bytes) -> None:
    for forged in (raw, raw[:64].ljust(64, b"0") + DIGEST + raw[64:]):
        try:
            entries.decode(forged, DIGEST)
        except CorruptEntry:
            continue


@given(st.binary(), st.binary())
def test_etags_are_equal_exactly_for_equal_bodies(one: bytes, other: bytes) -> None:
    assert (entries.etag_of(one) == entries.etag_of(other)) == (one == other)


def test_an_etag_is_the_same_on_every_machine() -> None:
    assert entries.etag_of(b"{}") == b"01e7b720ff566d53"
    assert len(entries.etag_of(BODY)) == len(entries.NO_ETAG)


@given(VERSIONS)
def test_what_shows_something_else_is_no_damage_but_is_never_an_answer(version: int) -> None:
    raw, other = held(filled(version)), digest(KEY, "abcdef")
    assert not entries.is_current(raw, other, b"0" * 16, b"f" * 16)
    with pytest.raises(entries.DeclaredOtherwise):
        entries.decode(raw, other)
