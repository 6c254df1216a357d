"""The fast path: one look into L1, and the same bytes whether an answer is a plain hit or not."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from neverstale.api.derived.sources import Sources
from neverstale.api.freshness.bound import Bounds
from neverstale.api.hits.fast_path import Hot, WireAsk
from neverstale.api.hits.request_lines import RequestLines
from neverstale.api.reads.answer import Answer
from neverstale.api.reads.ask import FutureAsk
from neverstale.api.reads.l1 import L1
from neverstale.api.reads.reader import Reader
from neverstale.api.web.compression import Compressed
from neverstale.api.web.demands import PLAIN, Plain
from neverstale.api.web.headers import SharedHeaders, document_tail, without_body
from neverstale.api.web.preconditions import Conditions, Tags
from neverstale.api.web.responses import ReadyResponse
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import digest
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.redis.entries import etag_of
from neverstale.role.tasks import Tasks
from neverstale.versions import to_hex
from tests.support.sources import documents_of

THINGS = documents_of(Resource(name="things", key_type="int"))  # type: ignore[call-arg]
BODY, LARGER = b'{"a":1}', b'{"a":"%b"}' % (b"x" * 3000)
LINE = b"GET /v1/things/1 HTTP/1.1"
CALLERS = (
    PLAIN,
    Plain(b"gzip"),
    Plain(conditions=Conditions(none_match=Tags(frozenset((etag_of(BODY),))))),
    Plain(conditions=Conditions(none_match=Tags(any=True))),
)


class Told(WireAsk):
    """An ask that remembers what it would send."""

    __slots__ = ("sent",)

    def __init__(self, hot: Hot, plain: Plain) -> None:
        super().__init__(hot, THINGS, 1, LINE, plain)
        self.sent: list[Any] = []

    def send(self, status: int, tail: bytes, shared: SharedHeaders) -> None:
        self.sent.append((status, tail, shared))

    def send_raw(self, response: ReadyResponse) -> None:
        self.sent.append(response.status_code)


@pytest.fixture
def hot() -> Hot:
    l1 = L1(1 << 20, 60)
    l1.vouch(9)
    reader = cast("Reader", SimpleNamespace(start=lambda ask: None))
    sources = Sources({"things": THINGS})
    return Hot(reader, l1, Compressed(Tasks()), Bounds(PrimaryClock()), RequestLines(sources), sources)


def entry(body: bytes | None) -> bytes:
    kind, etag = (b"D", etag_of(body)) if body is not None else (b"N", b"0" * 16)
    header = kind + b"1" + kind + to_hex(7).encode() * 2 + b"0" * 29
    return header + digest(THINGS.locate(1)[0], THINGS.shows) + etag + (body or b"")


@pytest.mark.parametrize("plain", CALLERS)
@pytest.mark.parametrize("body", [BODY, LARGER, None])
async def test_a_plain_hit_is_answered_like_any_other_answer(hot: Hot, body: bytes | None, plain: Plain) -> None:
    plainly, awaited, by_answer = Told(hot, plain), FutureAsk(THINGS, 1), Told(hot, plain)
    plainly.hit(entry(body), 9, None)
    awaited.hit(entry(body), 9, None)
    by_answer.set_answer(await awaited.future)
    assert plainly.sent == by_answer.sent
    assert plainly.done() and by_answer.done()
    packed = b"content-encoding: gzip" in plainly.sent[0][1]
    assert packed == (body is LARGER and plain.coding == b"gzip")


def test_l1_is_looked_into_for_get_and_head_alike_and_hits_are_counted(hot: Hot) -> None:
    tail, head = document_tail(etag_of(BODY), b"0" * 16, BODY), LINE.replace(b"GET", b"HEAD")
    assert (hot.look(LINE), hot.look(head), hot.hits) == (None, None, {})
    hot.l1.answers.put(LINE, tail)
    assert (hot.look(LINE), hot.look(head), hot.look(LINE)) == (tail, tail, tail)
    assert hot.hits == {LINE: 2, head: 1}
    assert hot.look(b"") is None


def test_what_an_audit_finds_in_l1_counts_as_no_hit(hot: Hot) -> None:
    tail = document_tail(etag_of(BODY), b"0" * 16, BODY)
    hot.l1.answers.put(LINE, tail)
    assert (hot.look(LINE, Plain(audit=True)), hot.hits) == (tail, {})


def test_what_l1_may_keep_is_found_there_again(hot: Hot) -> None:
    ask, tail = Told(hot, PLAIN), document_tail(etag_of(BODY), b"0" * 16, BODY)
    reading = hot.l1.begin(THINGS.announced([ask]))
    hot.keep(reading, ask, tail)
    assert hot.look(LINE) == tail
    hot.l1.changed(ask.entry_key, THINGS.lines("i:1"))
    assert hot.look(LINE) is None


def test_answers_of_one_moment_share_their_headers(hot: Hot) -> None:
    assert hot.shared_by(9, b"x", private=False) is hot.shared_by(9, b"x", private=False)
    assert hot.shared_by(10, b"x", private=False) is not hot.shared_by(9, b"x", private=False)


def test_errors_are_answered_too(hot: Hot) -> None:
    ask = Told(hot, PLAIN)
    ask.set_error(Outage("mongodb", "test"))
    assert ask.sent == [503]
    ended = Told(hot, PLAIN)
    ended.cancel()
    assert ended.sent == [503]


def test_a_404_is_answered_whatever_the_caller_has(hot: Hot) -> None:
    for plain in CALLERS:
        ask = Told(hot, plain)
        ask.set_answer(Answer(None, b"0" * 16, 7, 9, "miss", "mongodb"))
        assert ask.sent[0][0] == 404
        assert without_body(ask.sent[0][1]).startswith(b"neverstale-version: " + to_hex(7).encode())
