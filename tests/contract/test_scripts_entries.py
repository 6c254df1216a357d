"""Every cell of the protocol's table, and its edges: the scripts that work on entries."""

from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.contract.subjects import Header, Subject, header

A, B = b"a" * 16, b"b" * 16
NONE = b"0" * 16
DIGEST = b"0123456789abcdef"
ELSE = b"0123456789fedcba"
"""Of the same key, declared otherwise."""
ETAG = b"e7a6" * 4
BODY = b'{"_id":1}'
LEASE_MS = 60_000
TTL_MS = 600_000
RAN_OUT = b"%013d" % 1


def v(number: int) -> bytes:
    return b"%016x" % number


def lease(
    subject: Subject,
    key: bytes,
    token: bytes,
    floor: int = 0,
    lease_ms: int = LEASE_MS,
    digest: bytes = DIGEST,
) -> list[object]:
    (answer,) = subject.run("lease", [key], token, lease_ms, v(floor), digest)
    assert isinstance(answer, list)
    return answer


def fill(
    subject: Subject,
    key: bytes,
    token: bytes,
    version: int,
    kind: bytes = b"D",
    body: bytes = BODY,
    ttl: int = TTL_MS,
    digest: bytes = DIGEST,
) -> bytes:
    etag = ETAG if kind == b"D" else NONE
    (answer,) = subject.run("fill", [key], token, v(version), kind, ttl, digest, etag, body)
    assert isinstance(answer, bytes)
    return answer


def invalidate(
    subject: Subject, key: bytes, version: int, refresh: str = "n", token: bytes = B, lease_ms: int = LEASE_MS
) -> bytes:
    answer = subject.run("invalidate", [key], token, lease_ms, v(version), refresh)
    assert isinstance(answer, bytes)
    return answer


def raw(subject: Subject, key: bytes) -> bytes | None:
    held = subject.command("GET", key)
    assert held is None or isinstance(held, bytes)
    return held


# How an entry comes into each state, by the scripts themselves. Version 5 throughout, and A's lease if any.


def missing(subject: Subject, key: bytes) -> None:
    assert raw(subject, key) is None


def leased(subject: Subject, key: bytes) -> None:
    assert lease(subject, key, A) == [b"granted", b""]


def data(subject: Subject, key: bytes) -> None:
    leased(subject, key)
    assert fill(subject, key, A, 5) == b"filled"


def absent(subject: Subject, key: bytes) -> None:
    leased(subject, key)
    assert fill(subject, key, A, 5, b"N", b"") == b"filled"


def touched(subject: Subject, key: bytes) -> None:
    data(subject, key)
    subject.run("touch", [key])


def stale(subject: Subject, key: bytes) -> None:
    leased(subject, key)
    assert fill(subject, key, A, 4) == b"filled"
    assert invalidate(subject, key, 5) == b"d"


def stale_leased(subject: Subject, key: bytes) -> None:
    leased(subject, key)
    assert invalidate(subject, key, 5) == b"w"


def lease_ran_out(subject: Subject, key: bytes) -> None:
    leased(subject, key)
    subject.command("SETRANGE", key, 51, RAN_OUT)


def stale_lease_ran_out(subject: Subject, key: bytes) -> None:
    stale_leased(subject, key)
    subject.command("SETRANGE", key, 51, RAN_OUT)


Before = Callable[[Subject, bytes], None]


@pytest.mark.parametrize(
    ("before", "floor", "word", "after"),
    [
        (missing, 0, b"granted", (b"L", NONE, B)),
        (missing, 9, b"granted", (b"L", NONE, B)),
        (leased, 0, b"wait", (b"L", NONE, A)),
        (lease_ran_out, 0, b"granted", (b"L", NONE, B)),
        (data, 5, b"entry", (b"D", v(5), NONE)),
        (data, 6, b"granted", (b"S", v(6), B)),
        (absent, 5, b"entry", (b"N", v(5), NONE)),
        (absent, 6, b"granted", (b"S", v(6), B)),
        (stale, 0, b"granted", (b"S", v(5), B)),
        (stale, 9, b"granted", (b"S", v(5), B)),
        (stale_leased, 0, b"wait", (b"S", v(5), A)),
        (stale_lease_ran_out, 0, b"granted", (b"S", v(5), B)),
    ],
)
def test_lease_answers_and_leaves_what_the_table_says(
    subject: Subject, prefix: bytes, before: Before, floor: int, word: bytes, after: tuple[bytes, bytes, bytes]
) -> None:
    key = prefix + b"k"
    before(subject, key)
    held = raw(subject, key)

    answer = lease(subject, key, B, floor)

    assert answer[0] == word
    if word != b"wait":
        assert answer[1] == (held or b"")
    entry = header(raw(subject, key))
    assert (entry.state, entry.version, entry.token) == after


@pytest.mark.parametrize(
    ("before", "floor", "word", "after"),
    [
        (missing, 0, b"granted", (b"L", NONE, B)),
        (leased, 0, b"wait", (b"L", NONE, A)),
        (lease_ran_out, 0, b"granted", (b"L", NONE, B)),
        (data, 5, b"granted", (b"S", v(5), B)),
        (data, 6, b"granted", (b"S", v(6), B)),
        (absent, 5, b"granted", (b"S", v(5), B)),
        (stale, 0, b"granted", (b"S", v(5), B)),
        (stale, 9, b"granted", (b"S", v(5), B)),
        (stale_leased, 0, b"wait", (b"S", v(5), A)),
        (stale_lease_ran_out, 0, b"granted", (b"S", v(5), B)),
    ],
)
def test_a_lease_of_what_is_declared_otherwise_hands_over_no_body_and_forgets_no_version(
    subject: Subject, prefix: bytes, before: Before, floor: int, word: bytes, after: tuple[bytes, bytes, bytes]
) -> None:
    key = prefix + b"k"
    before(subject, key)
    answer = lease(subject, key, B, floor, digest=ELSE)
    assert answer[0] == word
    entry = header(raw(subject, key))
    assert (entry.state, entry.version, entry.token) == after
    if word == b"granted":
        assert answer == [b"granted", b""]
        assert (entry.digest, entry.body_kind, entry.body) == (ELSE, b"-", b"")


@pytest.mark.parametrize("before", [leased, data, stale_leased])
def test_a_fill_says_what_its_own_filler_declares(subject: Subject, prefix: bytes, before: Before) -> None:
    key = prefix + b"k"
    before(subject, key)
    assert fill(subject, key, A, 6, digest=ELSE) == b"filled"
    assert header(raw(subject, key)).digest == ELSE


@pytest.mark.parametrize(
    ("before", "token", "version", "answer"),
    [
        (missing, A, 9, b"missing"),
        (leased, A, 1, b"filled"),
        (leased, B, 9, b"token"),
        (lease_ran_out, A, 1, b"filled"),
        (data, B, 6, b"filled"),
        (data, A, 5, b"version"),
        (data, A, 4, b"version"),
        (absent, B, 6, b"filled"),
        (absent, B, 5, b"version"),
        (stale, A, 9, b"token"),
        (stale_leased, A, 5, b"filled"),
        (stale_leased, A, 6, b"filled"),
        (stale_leased, A, 4, b"version"),
        (stale_leased, B, 9, b"token"),
        (stale_lease_ran_out, A, 5, b"filled"),
    ],
)
@pytest.mark.parametrize("kind", [b"D", b"N"])
def test_fill_answers_and_leaves_what_the_table_says(
    subject: Subject, prefix: bytes, before: Before, token: bytes, version: int, answer: bytes, kind: bytes
) -> None:
    key = prefix + b"k"
    before(subject, key)
    held = raw(subject, key)

    assert fill(subject, key, token, version, kind, b"{}") == answer

    if answer == b"filled":
        etag = ETAG if kind == b"D" else NONE
        filled = Header(kind, b"0", kind, v(version), v(version), NONE, b"0" * 13, DIGEST, etag, b"{}")
        assert header(raw(subject, key)) == filled
        assert 0 < subject.command("PTTL", key) <= TTL_MS
    else:
        assert raw(subject, key) == held


@pytest.mark.parametrize(
    ("before", "version", "refresh", "letter", "after"),
    [
        (leased, 6, "r", b"w", (b"S", v(6), A)),
        (lease_ran_out, 6, "r", b"w", (b"S", v(6), A)),
        (data, 6, "n", b"d", (b"S", v(6), NONE)),
        (data, 6, "t", b"d", (b"S", v(6), NONE)),
        (touched, 6, "n", b"d", (b"S", v(6), NONE)),
        (touched, 6, "t", b"r", (b"S", v(6), B)),
        (data, 6, "r", b"r", (b"S", v(6), B)),
        (absent, 6, "n", b"d", (b"S", v(6), NONE)),
        (absent, 6, "r", b"r", (b"S", v(6), B)),
        (data, 5, "r", b"n", (b"D", v(5), NONE)),
        (data, 4, "r", b"n", (b"D", v(5), NONE)),
        (absent, 5, "n", b"n", (b"N", v(5), NONE)),
        (stale, 6, "r", b"s", (b"S", v(6), NONE)),
        (stale, 4, "r", b"s", (b"S", v(5), NONE)),
        (stale_leased, 6, "r", b"s", (b"S", v(6), A)),
        (stale_leased, 5, "r", b"s", (b"S", v(5), A)),
        (stale_leased, 4, "r", b"s", (b"S", v(5), A)),
    ],
)
def test_invalidate_answers_and_leaves_what_the_table_says(
    subject: Subject,
    prefix: bytes,
    before: Before,
    version: int,
    refresh: str,
    letter: bytes,
    after: tuple[bytes, bytes, bytes],
) -> None:
    key = prefix + b"k"
    before(subject, key)

    assert invalidate(subject, key, version, refresh) == letter

    entry = header(raw(subject, key))
    assert (entry.state, entry.version, entry.token) == after


def test_invalidating_a_missing_entry_writes_nothing(subject: Subject, prefix: bytes) -> None:
    assert invalidate(subject, prefix + b"k", 5, "r") == b"-"
    assert raw(subject, prefix + b"k") is None


@pytest.mark.parametrize("before", [leased, data, absent, stale, stale_leased])
def test_invalidating_twice_leaves_what_once_leaves(subject: Subject, prefix: bytes, before: Before) -> None:
    key = prefix + b"k"
    before(subject, key)
    invalidate(subject, key, 6)
    once = raw(subject, key)

    invalidate(subject, key, 6)

    assert raw(subject, key) == once


def test_a_stale_entry_keeps_its_body_and_the_version_it_was_read_at(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    data(subject, key)

    invalidate(subject, key, 6)

    entry = header(raw(subject, key))
    assert (entry.body_kind, entry.body_version, entry.etag, entry.body) == (b"D", v(5), ETAG, BODY)


def test_a_new_lease_on_a_stale_entry_answers_and_keeps_its_body(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    stale(subject, key)
    held = raw(subject, key)

    assert lease(subject, key, B) == [b"granted", held]

    assert header(raw(subject, key)).body == BODY


def test_a_lease_leaves_a_whole_header(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    before = subject.now_ms()
    lease(subject, key, A)
    after = subject.now_ms()

    entry = header(raw(subject, key))

    assert entry == Header(b"L", b"0", b"-", NONE, NONE, A, entry.lease_end, DIGEST, NONE, b"")
    assert before + LEASE_MS <= int(entry.lease_end) <= after + LEASE_MS


def test_who_has_to_wait_is_told_how_long_at_most(subject: Subject, prefix: bytes) -> None:
    leased(subject, prefix + b"k")
    word, left = lease(subject, prefix + b"k", B)
    assert word == b"wait"
    assert isinstance(left, int)
    assert LEASE_MS - 5_000 < left <= LEASE_MS


def test_a_bare_lease_is_gone_when_it_has_run_out(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    lease(subject, key, A, lease_ms=20)
    subject.let_pass(25)
    assert fill(subject, key, A, 9) == b"missing"


def test_a_lease_on_a_stale_entry_runs_out_by_the_clock(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    stale(subject, key)
    lease(subject, key, A, lease_ms=20)
    subject.let_pass(25)
    assert lease(subject, key, B)[0] == b"granted"
    assert fill(subject, key, A, 9) == b"token"


def test_a_value_is_gone_after_its_time_to_live(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    leased(subject, key)
    fill(subject, key, A, 5, ttl=20)
    subject.let_pass(25)
    assert lease(subject, key, B) == [b"granted", b""]


@pytest.mark.parametrize("ttl", [1_000, 10 * LEASE_MS])
def test_an_entry_lives_at_least_as_long_as_a_readers_lease_on_it(subject: Subject, prefix: bytes, ttl: int) -> None:
    key = prefix + b"k"
    leased(subject, key)
    fill(subject, key, A, 4, ttl=ttl)
    invalidate(subject, key, 5)

    lease(subject, key, B)

    assert max(ttl, LEASE_MS) - 1_000 < subject.command("PTTL", key) <= max(ttl, LEASE_MS)


@pytest.mark.parametrize("ttl", [1_000, 10 * LEASE_MS])
def test_an_entry_lives_at_least_as_long_as_a_refreshers_lease_on_it(
    subject: Subject, prefix: bytes, ttl: int
) -> None:
    key = prefix + b"k"
    leased(subject, key)
    fill(subject, key, A, 4, ttl=ttl)

    assert invalidate(subject, key, 5, "r") == b"r"

    assert max(ttl, LEASE_MS) - 1_000 < subject.command("PTTL", key) <= max(ttl, LEASE_MS)


def test_an_invalidation_does_not_lengthen_a_life(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    leased(subject, key)
    fill(subject, key, A, 4, ttl=1_000)
    invalidate(subject, key, 5)
    assert 0 < subject.command("PTTL", key) <= 1_000


def test_a_refreshers_lease_is_counted_by_rediss_clock(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    data(subject, key)
    before = subject.now_ms()
    invalidate(subject, key, 6, "r")
    after = subject.now_ms()
    assert before + LEASE_MS <= int(header(raw(subject, key)).lease_end) <= after + LEASE_MS


def test_a_refresher_may_fill_at_the_version_of_the_change_but_not_before(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    data(subject, key)
    invalidate(subject, key, 7, "r", token=B)
    assert fill(subject, key, B, 6) == b"version"
    assert fill(subject, key, B, 7) == b"filled"


def test_a_reader_waits_while_a_refresher_has_the_lease(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    data(subject, key)
    invalidate(subject, key, 7, "r", token=B)
    assert lease(subject, key, A)[0] == b"wait"


def test_touch_marks_values_and_nothing_else(subject: Subject, prefix: bytes) -> None:
    keys = [prefix + name for name in (b"data", b"absent", b"leased", b"stale", b"missing")]
    for before, key in zip((data, absent, leased, stale, missing), keys, strict=True):
        before(subject, key)

    assert subject.run("touch", keys) == 5

    assert [header(raw(subject, key)).touched for key in keys[:4]] == [b"1", b"1", b"0", b"0"]
    assert raw(subject, keys[4]) is None


def test_a_fill_makes_an_entry_untouched(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    touched(subject, key)
    fill(subject, key, A, 6)
    assert header(raw(subject, key)).touched == b"0"


def test_an_invalidated_entry_is_untouched(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    touched(subject, key)
    invalidate(subject, key, 6, "t")
    assert header(raw(subject, key)).touched == b"0"


def test_any_bytes_may_be_a_body(subject: Subject, prefix: bytes) -> None:
    key, body = prefix + b"k", bytes(range(256)) * 3 + b"\0\r\n\xff"
    leased(subject, key)
    fill(subject, key, A, 5, body=body)
    answer = lease(subject, key, B)
    assert answer[0] == b"entry"
    assert header(raw(subject, key)).body == body


def test_any_bytes_may_be_a_key(subject: Subject, prefix: bytes) -> None:
    key = prefix + "s:/:{☃}\0\n".encode() + b"\xff"
    data(subject, key)
    assert header(raw(subject, key)).body == BODY


def test_a_batch_is_answered_in_order_each_by_its_own_state(subject: Subject, prefix: bytes) -> None:
    befores = (missing, leased, data, stale, stale_leased)
    keys = [prefix + b"%d" % i for i in range(len(befores))]
    for before, key in zip(befores, keys, strict=True):
        before(subject, key)

    arguments = [item for i in range(len(keys)) for item in (v(6 + i), "n")]

    assert subject.run("invalidate", keys, B, LEASE_MS, *arguments) == b"-wdss"
    assert [header(raw(subject, key)).version for key in keys[1:]] == [v(7), v(8), v(9), v(10)]


def test_a_batch_of_leases_keeps_each_digest_with_its_key(subject: Subject, prefix: bytes) -> None:
    keys = [prefix + b"1", prefix + b"2"]
    digests = [b"1" * 16, b"2" * 16]
    assert subject.run("lease", keys, A, LEASE_MS, v(0), *digests) == [[b"granted", b""]] * 2
    assert [header(raw(subject, key)).digest for key in keys] == digests


def test_a_batch_of_fills_is_answered_in_order_each_by_its_own_arguments(subject: Subject, prefix: bytes) -> None:
    keys = [prefix + b"leased", prefix + b"missing", prefix + b"data"]
    for before, key in zip((leased, missing, data), keys, strict=True):
        before(subject, key)

    offers = [
        item
        for version, body in ((5, b"one"), (6, b"two"), (7, b"three"))
        for item in (A, v(version), b"D", TTL_MS, DIGEST, ETAG, body)
    ]

    assert subject.run("fill", keys, *offers) == [b"filled", b"missing", b"filled"]
    assert header(raw(subject, keys[0])).body == b"one"
    assert header(raw(subject, keys[2])).body == b"three"


@pytest.mark.parametrize("script", ["lease", "fill", "invalidate", "touch"])
def test_an_empty_batch_is_answered_by_nothing(subject: Subject, script: str) -> None:
    arguments = {"lease": (A, LEASE_MS, v(0)), "fill": (), "invalidate": (A, LEASE_MS), "touch": ()}
    answers = {"lease": [], "fill": [], "invalidate": b"", "touch": 0}
    assert subject.run(script, [], *arguments[script]) == answers[script]  # type: ignore[arg-type]


def test_what_is_no_string_is_an_error_and_stays_as_it_is(subject: Subject, prefix: bytes) -> None:
    subject.command("HSET", prefix + b"k", "field", "value")
    with pytest.raises(ResponseError):
        lease(subject, prefix + b"k", A)
    with pytest.raises(ResponseError):
        fill(subject, prefix + b"k", A, 5)
    with pytest.raises(ResponseError):
        invalidate(subject, prefix + b"k", 5)
    assert subject.hash(prefix + b"k") == {b"field": b"value"}


def test_a_time_to_live_of_nothing_is_an_error_and_fills_nothing(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"k"
    leased(subject, key)
    with pytest.raises(ResponseError):
        fill(subject, key, A, 5, ttl=0)
    assert header(raw(subject, key)).state == b"L"
