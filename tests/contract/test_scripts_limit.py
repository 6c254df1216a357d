"""The script that counts requests: a bucket that fills at a steady rate, by the clock of Redis."""

import pytest

from tests.contract.subjects import Subject

SLOW_US = 60_000_000
"""So long that nothing flows in during a test."""


def take(subject: Subject, key: bytes, wanted: int, *, size: int = 5, interval_us: float = SLOW_US) -> list[int]:
    answer: list[int] = subject.run("limit", [key], repr(float(interval_us)), size, wanted)
    return answer


def test_a_bucket_that_nobody_knows_is_full(subject: Subject, prefix: bytes) -> None:
    taken, left, _, _ = take(subject, prefix + b"b", 2)
    assert (taken, left) == (2, 3)


def test_no_more_is_taken_than_there_is(subject: Subject, prefix: bytes) -> None:
    assert take(subject, prefix + b"b", 4)[:2] == [4, 1]
    assert take(subject, prefix + b"b", 4)[:2] == [1, 0]
    assert take(subject, prefix + b"b", 4)[:2] == [0, 0]


def test_an_empty_bucket_says_when_it_has_a_token_and_when_it_is_full(subject: Subject, prefix: bytes) -> None:
    take(subject, prefix + b"b", 5)
    _, _, full, following = take(subject, prefix + b"b", 1)
    assert 4.9 * SLOW_US < full <= 5 * SLOW_US
    assert 0.9 * SLOW_US < following <= SLOW_US


def test_tokens_flow_in_with_the_time_and_no_more_than_the_bucket_holds(subject: Subject, prefix: bytes) -> None:
    interval_us = 100_000
    take(subject, prefix + b"b", 5, interval_us=interval_us)
    subject.let_pass(250)
    assert take(subject, prefix + b"b", 1, interval_us=interval_us)[0] == 1
    subject.let_pass(700)
    assert take(subject, prefix + b"b", 9, interval_us=interval_us)[:2] == [5, 0]


def test_a_full_bucket_is_forgotten(subject: Subject, prefix: bytes) -> None:
    take(subject, prefix + b"b", 5)
    assert 4.9 * SLOW_US / 1000 < subject.command("PTTL", prefix + b"b") <= 5 * SLOW_US / 1000


def test_a_refusal_writes_nothing(subject: Subject, prefix: bytes) -> None:
    take(subject, prefix + b"b", 5)
    before = subject.command("GET", prefix + b"b")
    take(subject, prefix + b"b", 1)
    assert subject.command("GET", prefix + b"b") == before


def test_intervals_need_not_be_whole_microseconds(subject: Subject, prefix: bytes) -> None:
    answers = [take(subject, prefix + b"b", 1, size=3, interval_us=SLOW_US / 7)[0] for _ in range(4)]
    assert answers == [1, 1, 1, 0]


@pytest.mark.parametrize("held", [b"", b"x", b"-1", b"inf", b"nan", b"1e300", b"9" * 400, b"9" * 17])
def test_what_is_no_bucket_shuts_no_caller_out(subject: Subject, prefix: bytes, held: bytes) -> None:
    subject.command("SET", prefix + b"b", held)
    assert take(subject, prefix + b"b", 4)[:2] == [4, 1]
    assert take(subject, prefix + b"b", 4)[:2] == [1, 0]
