"""What scripts make of bytes that none of them has written: a miss or an unknown, never an error or a long loop."""

import time

import pytest

from tests.contract.subjects import UNTOLD, Subject

TOKEN, DIGEST, NONE = b"a" * 16, b"d" * 16, b"0" * 16
LEASE_MS, LATEST, HERE = 5_000, b"7" * 16, b"here-1"
NONSENSE = [b"", b"x", b"z" * 16, b"Z" * 200, b"\xff" * 100, b"-1", b"1e300", b"inf", b"nan", b"9" * 400, b"?"]


def v(number: int) -> bytes:
    return b"%016x" % number


@pytest.mark.parametrize("held", NONSENSE)
def test_what_is_no_entry_is_leased_as_if_it_were_missing(subject: Subject, prefix: bytes, held: bytes) -> None:
    key = prefix + b"e"
    subject.command("SET", key, held)
    assert subject.run("lease", [key], TOKEN, LEASE_MS, v(0), DIGEST) == [[b"granted", b""]]
    assert subject.run("fill", [key], TOKEN, v(5), "D", 60_000, DIGEST, b"e" * 16, b"{}") == [b"filled"]


@pytest.mark.parametrize("held", [text for text in NONSENSE if text])
def test_what_is_no_entry_is_not_filled_and_not_kept(subject: Subject, prefix: bytes, held: bytes) -> None:
    for script, arguments, answer in (
        ("fill", (TOKEN, v(5), "D", 60_000, DIGEST, b"e" * 16, b"{}"), [b"missing"]),
        ("invalidate", (TOKEN, LEASE_MS, v(5), "r"), b"x"),
    ):
        key = prefix + script.encode()
        subject.command("SET", key, held[:90])
        assert subject.run(script, [key], *arguments) == answer  # type: ignore[arg-type]
        assert subject.command("EXISTS", key) == 0


@pytest.mark.parametrize("end", [b"9" * 13, b"x" * 13, b"-" * 13, b"0x00000000fff"])
def test_a_lease_that_nobody_can_hold_makes_nobody_wait(subject: Subject, prefix: bytes, end: bytes) -> None:
    key = prefix + b"e"
    subject.command("SET", key, b"L0-" + NONE + NONE + b"b" * 16 + end + DIGEST + NONE)
    ((word, _),) = subject.run("lease", [key], TOKEN, LEASE_MS, v(0), DIGEST)
    assert word == b"granted"


@pytest.mark.parametrize("held", NONSENSE)
def test_what_is_no_register_is_unknown_and_can_be_established(subject: Subject, prefix: bytes, held: bytes) -> None:
    key = prefix + b"r"
    subject.command("SET", key, held)
    assert subject.run("raise", [key], v(5)) == b"-"
    assert subject.run("claim", [key], TOKEN, LEASE_MS) == b"c"
    assert subject.run("establish", [key], TOKEN, v(6)) == b"e"


@pytest.mark.parametrize("held", [*NONSENSE, b"1000000000", b"f" * 16 + b":0000000000001:" + HERE])
def test_a_watermark_that_cannot_be_true_gives_way_to_a_true_one(
    subject: Subject, prefix: bytes, held: bytes
) -> None:
    key = prefix + b"w"
    for field in ("partitions", "0", "1"):
        subject.command("HSET", key, field, held)
    started = time.monotonic()
    for partition in (0, 1):
        assert subject.run("watermark", [key], HERE, 2, LATEST, *UNTOLD, partition, v(5), 50) == []
    assert time.monotonic() - started < 5
    assert subject.hash(key) == {
        b"partitions": b"2",
        **{b"%d" % partition: v(5) + b":0000000000050:" + HERE for partition in (0, 1)},
    }


@pytest.mark.parametrize("held", [text for text in NONSENSE if text != b"9" * 400])
def test_an_account_that_is_no_offset_is_not_known(subject: Subject, prefix: bytes, held: bytes) -> None:
    key = prefix + b"a"
    subject.command("HSET", key, "0", held)
    subject.run("stamp", [key], TOKEN, 0)
    assert subject.run("reach", [key], TOKEN, 0, 10, 20) == [b"-"]
    assert subject.run("reach", [key], TOKEN, 0, "", 20) == [b"k"]
