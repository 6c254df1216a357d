"""L1 keeps what was vouched for, within its bytes, and nothing that an announcement has spoken of."""

import pytest

from neverstale.api.reads.l1 import L1
from neverstale.api.reads.spellings import spellings

KEY, LINE_OF_KEY = b"ns:things:d:s:a", b"GET /v1/things/a HTTP/1.1"


def l1(limit: int = 1 << 20) -> L1:
    kept = L1(limit, 3600)
    kept.vouch(5)
    return kept


def keep(kept: L1, key: bytes = KEY, line: bytes = LINE_OF_KEY, tail: bytes = b"e") -> None:
    reading = kept.begin({key})
    kept.keep(reading, key, line, tail)
    kept.end(reading)


def test_what_was_read_is_kept() -> None:
    kept = l1()
    keep(kept)
    assert kept.answers.get(LINE_OF_KEY) == b"e"


def test_nothing_is_kept_before_it_is_vouched_for() -> None:
    kept = L1(1 << 20, 3600)
    keep(kept)
    assert kept.answers.get(LINE_OF_KEY) is None


def test_an_announcement_between_read_and_keep_spoils_that_key_only() -> None:
    kept = l1()
    reading = kept.begin({KEY, b"other"})
    kept.changed(KEY, [LINE_OF_KEY])
    kept.keep(reading, KEY, LINE_OF_KEY, b"e")
    kept.keep(reading, b"other", b"GET other", b"e")
    assert (kept.answers.get(LINE_OF_KEY), kept.answers.get(b"GET other")) == (None, b"e")


@pytest.mark.parametrize("what", ["clear", "void"])
def test_a_floor_or_a_voiding_spoils_every_reading(what: str) -> None:
    kept = l1()
    reading = kept.begin({KEY})
    getattr(kept, what)()
    kept.vouch(6)
    kept.keep(reading, KEY, LINE_OF_KEY, b"e")
    assert kept.answers.get(LINE_OF_KEY) is None


PAGE, GROUP = b"GET /v1/things/-/lists/all HTTP/1.1", b"things|all|1f2e"


def keep_page(kept: L1, group: bytes = GROUP, line: bytes = PAGE) -> None:
    reading = kept.begin({group})
    kept.keep_page(reading, group, line, b"e")
    kept.end(reading)


@pytest.mark.parametrize(
    ("announced", "stays"),
    [
        ("things|all|1f2e", False),
        ("things|all|*", False),
        ("things|*|*", False),
        ("things|all|1f2f", True),
        ("things|al|*", True),
        ("other|*|*", True),
    ],
)
def test_a_page_stays_until_its_group_is_announced(announced: str, stays: bool) -> None:
    kept = l1()
    keep_page(kept)
    tell(kept, announced)
    assert (kept.answers.get(PAGE) is not None) == stays


@pytest.mark.parametrize("announced", ["things|all|1f2e", "things|all|*", "things|*|*"])
def test_a_group_announced_between_read_and_keep_spoils_its_page_only(announced: str) -> None:
    kept = l1()
    reading = kept.begin({GROUP, b"others|all|1f2e"})
    tell(kept, announced)
    kept.keep_page(reading, GROUP, PAGE, b"e")
    kept.keep_page(reading, b"others|all|1f2e", b"GET other", b"e")
    assert (kept.answers.get(PAGE), kept.answers.get(b"GET other")) == (None, b"e")


def test_all_lines_of_a_group_go_together() -> None:
    kept = l1()
    lines = [b"GET %d" % number for number in range(5)]
    for line in lines:
        keep_page(kept, line=line)
    kept.changed_group(GROUP)
    assert [line for line in lines if kept.answers.get(line)] == []


def test_pages_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverstale.api.reads.l1.MOST_PAGES", 10)
    kept = l1()
    for number in range(25):
        keep_page(kept, b"things|all|%04x" % number, b"GET %d" % number)
    assert len(kept.answers) == 5
    kept.changed_groups(b"things|")
    assert len(kept.answers) == 0


def tell(kept: L1, group: str) -> None:
    """As the channel hands it on."""
    beginning, every, _ = group.partition("*")
    if every:
        kept.changed_groups(beginning.encode())
    else:
        kept.changed_group(group.encode())


def test_a_reading_that_ended_keeps_nothing() -> None:
    kept = l1()
    reading = kept.begin({KEY})
    kept.end(reading)
    kept.keep(reading, KEY, LINE_OF_KEY, b"e")
    assert kept.answers.get(LINE_OF_KEY) is None


def test_an_announcement_drops_every_spelling() -> None:
    kept = l1()
    lines = list(spellings(b"/v1/things/", "s:(a) b:c"))
    for line in lines:
        keep(kept, b"k", line)
    kept.changed(b"k", lines)
    assert len(lines) == 3
    assert len(kept.answers) == 0


def test_nothing_stays_longer_than_its_life() -> None:
    now = [0.0]
    kept = L1(1 << 20, 10, clock=lambda: now[0])
    kept.vouch(5)
    keep(kept)
    now[0] = 9.9
    kept.vouch(6)
    assert kept.answers.get(LINE_OF_KEY) == b"e"
    now[0] = 10.0
    kept.vouch(7)
    assert kept.answers.get(LINE_OF_KEY) is None


def test_a_limit_of_zero_keeps_nothing() -> None:
    kept = l1(0)
    keep(kept)
    assert kept.answers.get(LINE_OF_KEY) is None
