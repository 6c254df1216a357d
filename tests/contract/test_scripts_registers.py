"""The scripts that work on registers (`applied`, floors) and on the watermarks' hash."""

from tests.contract.subjects import Subject

NONCE, OTHER = b"c" * 16, b"d" * 16
CLAIM_MS = 60_000
HERE, ELSEWHERE = b"here-1", b"elsewhere-2"


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
    assert subject.run("watermark", [key], identity, 4, partition, v(version), wall_ms) == 1


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
    assert subject.run("watermark", [key], HERE, 2, 0, v(5), 50, 1, v(3), 30) == 1
    watermark(subject, key, HERE, 6, 60, partition=1)
    held = subject.hash(key)
    assert held[b"0"].startswith(v(5))
    assert held[b"1"].startswith(v(6))


def test_the_number_of_partitions_rises_with_any_mark(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], HERE, 2, 0, v(5), 50)
    subject.run("watermark", [key], HERE, 3, 1, v(4), 40)
    assert subject.hash(key)[b"partitions"] == b"3"


def test_a_mark_from_before_partitions_were_added_does_not_take_them_away(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], HERE, 12, 7, v(9), 90)
    subject.run("watermark", [key], HERE, 6, 0, v(8), 80, 1, v(9), 90)
    held = subject.hash(key)
    assert (held[b"partitions"], held[b"0"][:16]) == (b"12", v(8))


def test_a_topic_made_again_with_fewer_partitions_counts_them_anew(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], HERE, 12, 7, v(9), 90)
    subject.run("watermark", [key], HERE, 6, 0, v(10), 95)
    assert subject.hash(key)[b"partitions"] == b"6"


def test_what_another_redis_held_does_not_keep_the_number_of_partitions_up(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"w"
    subject.run("watermark", [key], ELSEWHERE, 12, 7, v(9), 90)
    subject.run("watermark", [key], HERE, 6, 0, v(8), 80)
    assert subject.hash(key)[b"partitions"] == b"6"
