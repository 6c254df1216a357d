from typing import cast

from neverstale.api.cells.shares import BEHIND_SECONDS, SharedFeeds, SharedL1
from neverstale.api.live.feeds import Feeds

NOW = 1_000 << 32


def shared() -> SharedL1:
    return SharedL1(1 << 20, 60)


def test_answers_state_the_bound_of_the_cell_that_is_furthest_behind() -> None:
    l1 = shared()
    one, other = l1.share(), l1.share()
    one.vouch(NOW + 5)
    assert l1.watermark == NOW + 5
    other.vouch(NOW)
    assert (l1.watermark, one.watermark, other.watermark) == (NOW, NOW + 5, NOW)


def test_nothing_is_kept_of_a_cell_that_is_not_vouched_for() -> None:
    l1 = shared()
    one, other = l1.share(), l1.share()
    one.vouch(NOW)
    for share, kept in ((one, b"tail"), (other, None)):
        reading = share.begin({b"key"})
        l1.keep(reading, b"key", b"line", b"tail")
        share.end(reading)
        assert l1.answers.get(b"line") == kept
        l1.answers.clear()


def test_a_cell_that_loses_its_voucher_takes_all_answers_with_it_and_leaves_the_others_theirs_to_come() -> None:
    l1 = shared()
    one, other = l1.share(), l1.share()
    one.vouch(NOW)
    other.vouch(NOW)
    reading = one.begin({b"key"})
    l1.keep(reading, b"key", b"line", b"tail")
    other.void()
    assert l1.answers.get(b"line") is None
    l1.keep(reading, b"key", b"line", b"tail")
    assert l1.answers.get(b"line") is None, "what was being read then is spoilt"
    again = one.begin({b"key"})
    l1.keep(again, b"key", b"line", b"tail")
    assert l1.answers.get(b"line") == b"tail"


def test_a_cell_that_stands_still_does_not_make_the_others_look_old() -> None:
    l1 = shared()
    one, still = l1.share(), l1.share()
    one.vouch(NOW)
    still.vouch(NOW)
    ahead = NOW + ((BEHIND_SECONDS + 1) << 32)
    one.vouch(ahead)
    assert (l1.watermark, still.watermark) == (ahead, 0)
    still.vouch(ahead + 1)
    assert l1.watermark == ahead


def test_nothing_is_vouched_for_when_no_cell_is() -> None:
    l1 = shared()
    one = l1.share()
    one.vouch(NOW)
    one.void()
    assert l1.watermark == 0


class FeedsHeard:
    def __init__(self) -> None:
        self.watermark = 0
        self.names: list[bytes] = []

    def vouch(self, watermark: int, group: str) -> None:
        self.watermark = watermark

    def void(self) -> None:
        self.watermark = 0

    def changed(self, name: bytes) -> None:
        self.names.append(name)


def test_live_reads_are_vouched_for_as_far_as_all_cells_are() -> None:
    heard = FeedsHeard()
    feeds = SharedFeeds(cast("Feeds", heard))
    one, other = feeds.share(), feeds.share()
    one.vouch(NOW + 1)
    assert heard.watermark == 0
    other.vouch(NOW)
    assert heard.watermark == NOW
    other.void()
    assert heard.watermark == 0
    feeds.drop(other)
    one.vouch(NOW + 2)
    assert heard.watermark == NOW + 2


def test_who_watches_a_document_need_not_know_in_which_cell_it_lies() -> None:
    heard = FeedsHeard()
    SharedFeeds(cast("Feeds", heard)).share().changed(b"ns:{default.4.1}:flights:d:s:a}:{b")
    assert heard.names == [b"ns:flights:d:s:a}:{b"]
