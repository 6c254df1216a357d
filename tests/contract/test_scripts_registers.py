"""The scripts that work on registers (`applied`, floors), on what is reached and on the watermarks' hash."""

import pytest

from tests.contract.subjects import UNTOLD, Subject

NONCE, OTHER = b"c" * 16, b"d" * 16
CLAIM_MS = 60_000
HERE, ELSEWHERE = b"here-1", b"elsewhere-2"
LATEST = b"f" * 16


def v(number: int) -> bytes:
    return b"%016x" % number


def establish(subject: Subject, key: bytes, version: int) -> None:
    subject.run("claim", [key], NONCE, CLAIM_MS)
    assert subject.run("establish", [key], NONCE, v(version)) == b"e"


def test_a_known_register_rises(subject: Subject, prefix: bytes) -> None:
    establish(subject, prefix + b"r", 5)
    assert subject.run("raise", [prefix + b"r"], v(6)) == b"k"
    assert subject.command("GET", prefix + b"r") == v(6)


def test_a_known_register_never_falls(subject: Subject, prefix: bytes) -> None:
    establish(subject, prefix + b"r", 5)
    assert subject.run("raise", [prefix + b"r"], v(4)) == b"k"
    assert subject.command("GET", prefix + b"r") == v(5)


def test_versions_are_compared_in_all_their_64_bits(subject: Subject, prefix: bytes) -> None:
    low, high = 0xFFFFFFFF_FFFFFFFE, 0xFFFFFFFF_FFFFFFFF
    establish(subject, prefix + b"r", high)
    subject.run("raise", [prefix + b"r"], v(low))
    assert subject.command("GET", prefix + b"r") == v(high)


def test_raising_does_not_create_a_register(subject: Subject, prefix: bytes) -> None:
    assert subject.run("raise", [prefix + b"r"], v(6)) == b"-"
    assert subject.command("EXISTS", prefix + b"r") == 0


def test_a_register_has_no_time_to_live(subject: Subject, prefix: bytes) -> None:
    establish(subject, prefix + b"r", 5)
    assert subject.command("PTTL", prefix + b"r") == -1
    subject.run("raise", [prefix + b"r"], v(6))
    assert subject.command("PTTL", prefix + b"r") == -1


def test_a_claim_is_no_version_yet(subject: Subject, prefix: bytes) -> None:
    assert subject.run("claim", [prefix + b"r"], NONCE, CLAIM_MS) == b"c"
    assert subject.command("GET", prefix + b"r") == b"?" + NONCE + b":" + v(0)
    assert 0 < subject.command("PTTL", prefix + b"r") <= CLAIM_MS


def test_what_is_known_is_not_claimed(subject: Subject, prefix: bytes) -> None:
    establish(subject, prefix + b"r", 5)
    assert subject.run("claim", [prefix + b"r"], OTHER, CLAIM_MS) == b"-"
    assert subject.command("GET", prefix + b"r") == v(5)


def test_what_is_claimed_is_not_claimed_again(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, CLAIM_MS)
    assert subject.run("claim", [prefix + b"r"], OTHER, CLAIM_MS) == b"-"
    assert subject.run("establish", [prefix + b"r"], NONCE, v(5)) == b"e"


def test_only_the_claimant_establishes(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, CLAIM_MS)
    assert subject.run("establish", [prefix + b"r"], OTHER, v(5)) == b"-"
    assert subject.command("GET", prefix + b"r") == b"?" + NONCE + b":" + v(0)


def test_a_claim_that_vanished_establishes_nothing(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, CLAIM_MS)
    subject.command("DEL", prefix + b"r")
    assert subject.run("establish", [prefix + b"r"], NONCE, v(5)) == b"-"
    assert subject.command("EXISTS", prefix + b"r") == 0


def test_a_claim_that_ran_out_establishes_nothing(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, 20)
    subject.let_pass(25)
    assert subject.run("establish", [prefix + b"r"], NONCE, v(5)) == b"-"


def test_a_register_is_established_once(subject: Subject, prefix: bytes) -> None:
    establish(subject, prefix + b"r", 5)
    assert subject.run("establish", [prefix + b"r"], NONCE, v(9)) == b"-"
    assert subject.command("GET", prefix + b"r") == v(5)


def test_what_is_raised_while_claimed_is_remembered(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, CLAIM_MS)
    assert subject.run("raise", [prefix + b"r"], v(7)) == b"p"
    assert subject.run("raise", [prefix + b"r"], v(6)) == b"p"
    subject.run("establish", [prefix + b"r"], NONCE, v(5))
    assert subject.command("GET", prefix + b"r") == v(7)


def test_the_present_counts_if_less_was_raised_while_claimed(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, CLAIM_MS)
    subject.run("raise", [prefix + b"r"], v(4))
    subject.run("establish", [prefix + b"r"], NONCE, v(5))
    assert subject.command("GET", prefix + b"r") == v(5)


def test_raising_does_not_lengthen_a_claim(subject: Subject, prefix: bytes) -> None:
    subject.run("claim", [prefix + b"r"], NONCE, 1_000)
    subject.run("raise", [prefix + b"r"], v(7))
    assert 0 < subject.command("PTTL", prefix + b"r") <= 1_000


def test_several_registers_are_answered_in_order_each_by_its_own_state(subject: Subject, prefix: bytes) -> None:
    known, pending, unknown = (prefix + name for name in (b"known", b"pending", b"unknown"))
    establish(subject, known, 5)
    subject.run("claim", [pending], NONCE, CLAIM_MS)

    assert subject.run("raise", [known, pending, unknown], v(6), v(7), v(8)) == b"kp-"
    assert subject.run("claim", [known, pending, unknown], OTHER, CLAIM_MS) == b"--c"
    assert subject.run("establish", [known, pending, unknown], NONCE, v(1)) == b"-e-"
    assert [subject.command("GET", key) for key in (known, pending)] == [v(6), v(7)]


def watermark(subject: Subject, key: bytes, identity: bytes, version: int, wall_ms: int, partition: int = 0) -> None:
    assert subject.run("watermark", [key], identity, 4, LATEST, *UNTOLD, partition, v(version), wall_ms) == []


def test_a_watermark_says_its_version_wall_time_and_redis(subject: Subject, prefix: bytes) -> None:
    watermark(subject, prefix + b"w", HERE, 5, 1_700_000_000_000)
    assert subject.hash(prefix + b"w") == {b"partitions": b"4", b"0": v(5) + b":1700000000000:" + HERE}


def test_a_watermark_rises(subject: Subject, prefix: bytes) -> None:
    watermark(subject, prefix + b"w", HERE, 5, 50)
    watermark(subject, prefix + b"w", HERE, 6, 60)
    assert subject.hash(prefix + b"w")[b"0"] == v(6) + b":0000000000060:" + HERE


def test_a_watermark_does_not_fall(subject: Subject, prefix: bytes) -> None:
    watermark(subject, prefix + b"w", HERE, 5, 50)
    watermark(subject, prefix + b"w", HERE, 4, 60)
    assert subject.hash(prefix + b"w")[b"0"] == v(5) + b":0000000000050:" + HERE


def test_a_watermark_starts_anew_on_another_redis(subject: Subject, prefix: bytes) -> None:
    watermark(subject, prefix + b"w", ELSEWHERE, 5, 50)
    watermark(subject, prefix + b"w", HERE, 4, 40)
    assert subject.hash(prefix + b"w")[b"0"] == v(4) + b":0000000000040:" + HERE


def test_partitions_have_watermarks_of_their_own(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    assert subject.run("watermark", [key], HERE, 2, LATEST, *UNTOLD, 0, v(5), 50, 1, v(3), 30) == []
    watermark(subject, key, HERE, 6, 60, partition=1)
    held = subject.hash(key)
    assert held[b"0"].startswith(v(5))
    assert held[b"1"].startswith(v(6))


def test_the_number_of_partitions_rises_with_any_mark(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], HERE, 2, LATEST, *UNTOLD, 0, v(5), 50)
    subject.run("watermark", [key], HERE, 3, LATEST, *UNTOLD, 1, v(4), 40)
    assert subject.hash(key)[b"partitions"] == b"3"


def test_a_mark_from_before_partitions_were_added_does_not_take_them_away(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], HERE, 12, LATEST, *UNTOLD, 7, v(9), 90)
    subject.run("watermark", [key], HERE, 6, LATEST, *UNTOLD, 0, v(8), 80, 1, v(9), 90)
    held = subject.hash(key)
    assert (held[b"partitions"], held[b"0"][:16]) == (b"12", v(8))


def test_a_topic_made_again_with_fewer_partitions_counts_them_anew(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], HERE, 12, LATEST, *UNTOLD, 7, v(9), 90)
    subject.run("watermark", [key], HERE, 6, LATEST, *UNTOLD, 0, v(10), 95)
    assert subject.hash(key)[b"partitions"] == b"6"


def test_what_another_redis_held_does_not_keep_the_number_of_partitions_up(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], ELSEWHERE, 12, LATEST, *UNTOLD, 7, v(9), 90)
    subject.run("watermark", [key], HERE, 6, LATEST, *UNTOLD, 0, v(8), 80)
    assert subject.hash(key)[b"partitions"] == b"6"


TOKEN, OTHER_TOKEN = b"1" * 16, b"2" * 16


def reach(subject: Subject, key: bytes, *partitions: bytes | int | str, token: bytes = TOKEN) -> list[bytes]:
    """A batch of `token` is taken; partitions come in threes: number, first offset, offset after the last."""
    subject.run("stamp", [key], token, *partitions[::3])
    answers: list[bytes] = subject.run("reach", [key], token, *partitions)
    return answers


def offset(subject: Subject, key: bytes, partition: bytes = b"0") -> bytes | None:
    return subject.hash(key).get(partition)


def test_nobody_knows_what_a_redis_lacks_that_holds_no_offset(subject: Subject, prefix: bytes) -> None:
    assert reach(subject, prefix + b"p", 0, 5, 7) == [b"-"]
    assert offset(subject, prefix + b"p") is None


def test_where_all_before_is_void_an_offset_is_noted_whatever_was_held(subject: Subject, prefix: bytes) -> None:
    assert reach(subject, prefix + b"p", 0, "", 5) == [b"k"]
    assert offset(subject, prefix + b"p") == b"5"
    assert reach(subject, prefix + b"p", 0, "", 3) == [b"k"]
    assert offset(subject, prefix + b"p") == b"3"


def test_a_batch_that_follows_is_reached(subject: Subject, prefix: bytes) -> None:
    reach(subject, prefix + b"p", 0, "", 5)
    assert reach(subject, prefix + b"p", 0, 5, 12) == [b"k"]
    assert offset(subject, prefix + b"p") == b"12"


def test_a_batch_that_came_before_changes_nothing(subject: Subject, prefix: bytes) -> None:
    reach(subject, prefix + b"p", 0, "", 12)
    assert reach(subject, prefix + b"p", 0, 5, 9) == [b"k"]
    assert offset(subject, prefix + b"p") == b"12"


def test_a_batch_that_does_not_follow_is_told_what_is_lacking(subject: Subject, prefix: bytes) -> None:
    reach(subject, prefix + b"p", 0, "", 5)
    assert reach(subject, prefix + b"p", 0, 6, 9) == [b"5"]
    assert offset(subject, prefix + b"p") == b"5"


def test_offsets_are_compared_as_numbers(subject: Subject, prefix: bytes) -> None:
    reach(subject, prefix + b"p", 0, "", 9)
    assert reach(subject, prefix + b"p", 0, 9, 10) == [b"k"]
    assert reach(subject, prefix + b"p", 0, 10, 9_007_199_254_740_991) == [b"k"]
    assert offset(subject, prefix + b"p") == b"9007199254740991"


def test_a_batch_that_another_redis_took_notes_nothing(subject: Subject, prefix: bytes) -> None:
    reach(subject, prefix + b"p", 0, "", 5)
    assert subject.run("reach", [prefix + b"p"], OTHER_TOKEN, 0, 5, 7) == [b"?"]
    assert subject.run("reach", [prefix + b"p"], OTHER_TOKEN, 0, "", 7) == [b"?"]
    assert offset(subject, prefix + b"p") == b"5"


def test_partitions_are_answered_in_order_each_by_its_own_state(subject: Subject, prefix: bytes) -> None:
    reach(subject, prefix + b"p", 0, "", 5, 1, "", 5)
    assert reach(subject, prefix + b"p", 0, 5, 6, 1, 8, 9, 2, 1, 2, 3, "", 4) == [b"k", b"5", b"-", b"k"]
    assert [offset(subject, prefix + b"p", number) for number in (b"0", b"1", b"2", b"3")] == [b"6", b"5", None, b"4"]


OURS, THEIRS = b"a" * 16, b"b" * 16


def offer(subject: Subject, key: bytes, version: int, coverage: bytes, made_up: bytes = b"") -> object:
    return subject.run("watermark", [key], HERE, 4, LATEST, coverage, b"{}", made_up, 2, v(version), 50)


def test_a_watermark_says_with_what_coverage_it_was_applied(subject: Subject, prefix: bytes) -> None:
    assert offer(subject, prefix + b"w", 5, OURS) == []
    held = subject.hash(prefix + b"w")
    assert (held[b"c2"], held[b"=" + OURS]) == (OURS, b"{}")


def test_a_partition_that_was_applied_with_another_coverage_is_left_as_it_is_until_that_is_made_up_for(
    subject: Subject, prefix: bytes
) -> None:
    key = prefix + b"w"
    offer(subject, key, 5, THEIRS)
    before = subject.hash(key)
    assert offer(subject, key, 6, OURS) == [b"2", THEIRS]
    assert offer(subject, key, 6, OURS, b" 1=" + THEIRS + b"; 2=" + OURS + b";") == [b"2", THEIRS]
    assert subject.hash(key) == before
    assert offer(subject, key, 6, OURS, b" 1=" + OURS + b"; 2=" + THEIRS + b";") == []
    assert subject.hash(key)[b"c2"] == OURS and subject.hash(key)[b"2"].startswith(v(6))
    assert offer(subject, key, 7, THEIRS) == [b"2", OURS]


@pytest.mark.parametrize("held", [b"", b"x", b"\xff" * 16, b"A" * 16, b"a" * 17])
def test_a_coverage_that_nobody_can_have_written_is_made_up_for_like_one_that_covers_nothing(
    subject: Subject, prefix: bytes, held: bytes
) -> None:
    key = prefix + b"w"
    offer(subject, key, 5, OURS)
    subject.command("HSET", key, "c2", held)
    assert offer(subject, key, 6, OURS) == [b"2", b""]
    assert offer(subject, key, 6, OURS, b" 2=;") == []
    assert subject.hash(key)[b"c2"] == OURS


def test_who_tells_no_coverage_is_not_kept_from_a_partition(subject: Subject, prefix: bytes) -> None:
    """As a consumer of the version before."""
    offer(subject, prefix + b"w", 5, THEIRS)
    assert offer(subject, prefix + b"w", 6, b"") == []
