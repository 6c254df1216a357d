"""Which answers an ask settles for, whoever read them, and what it is given when nothing will do."""

import asyncio
from itertools import product

import pytest

from neverstale.api.freshness.bound import Bounds
from neverstale.api.reads.answer import ANYTHING, Answer, Detail, NotUnique, Wish
from neverstale.api.reads.ask import FutureAsk
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import digest
from neverstale.mongodb.kinds import Kind
from neverstale.mongodb.loader import Snapshot
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.redis.entries import decode, etag_of
from neverstale.versions import to_hex
from tests.support.sources import documents_of

THINGS = documents_of(Resource(name="things", key_type="int"))  # type: ignore[call-arg]
WISHES = (
    ANYTHING,
    Wish(max_age_seconds=5),
    Wish(max_age_seconds=5, min_version=100),
    Wish(no_cache=True),
    Wish(min_version=100),
    Wish(only_if_cached=True),
    Wish(stale_if_error_seconds=60),
)


def bound(complete: int) -> float | None:
    """The older, the wider; of the oldest it is not known."""
    return None if complete < 50 else 200.0 - complete


def answer(version: int, complete: int, detail: Detail, *, collapsed: bool = False) -> Answer:
    return Answer(b"{}", b"0" * 16, version, complete, "hit", detail, collapsed)


@pytest.mark.parametrize(
    ("wish", "stale_since", "given", "own"),
    list(product(WISHES, (0, 99, 101), ((40, 40), (100, 100), (90, 198), (199, 0)), (True, False))),
)
async def test_an_answer_will_do_if_it_is_as_new_and_as_young_as_is_asked(
    wish: Wish, stale_since: int, given: tuple[int, int], own: bool
) -> None:
    """`own`: it was read from MongoDB for this ask; all else may be too old."""
    ask = FutureAsk(THINGS, 1, wish)
    ask.stale_since = stale_since
    version, complete = given
    reached, age = max(version, complete), bound(max(version, complete))
    new_enough = reached >= wish.min_version and reached >= stale_since
    young_enough = wish.max_age_seconds is None or (age is not None and age <= wish.max_age_seconds)
    for detail, collapsed in [("mongodb", False)] if own else [("l2", False), ("mongodb", True), ("l2", True)]:
        will_do = new_enough and (own or (young_enough and not wish.no_cache))
        given_answer = answer(version, complete, detail, collapsed=collapsed)  # type: ignore[arg-type]
        assert ask.met_by(given_answer, bound) == will_do


async def test_what_will_not_do_is_not_handed_over() -> None:
    ask = FutureAsk(THINGS, 1, Wish(min_version=100))
    assert not ask.take(answer(99, 99, "l2"), bound)
    assert not ask.done()
    assert ask.take(answer(100, 100, "l2"), bound)
    assert (await ask.future).version == 100


async def test_who_has_gone_is_answered_no_more() -> None:
    ask = FutureAsk(THINGS, 1)
    ask.future.cancel()
    ask.hit(entry(b"{}"), 9, None)
    ask.settle(answer(1, 1, "l2"))
    ask.refuse(Outage("redis", "test"))
    ask.fail(Outage("redis", "test"), Bounds(PrimaryClock()))
    assert ask.future.cancelled()


@pytest.mark.parametrize("body", [b'{"a":1}', None])
@pytest.mark.parametrize("watermark", [3, 9])
async def test_a_hit_says_what_decoding_the_entry_would_say(body: bytes | None, watermark: int) -> None:
    raw = entry(body)
    decoded = decode(raw, digest(THINGS.locate(1)[0], THINGS.shows))
    ask = FutureAsk(THINGS, 1)
    ask.hit(raw, watermark, None)
    complete = max(decoded.version, watermark)
    expected = Answer(decoded.body, decoded.etag, decoded.version, complete, "hit", "l2")
    assert await ask.future == expected


async def test_what_nothing_tells_of_has_no_bound() -> None:
    ask = FutureAsk(THINGS, 1, Wish(min_version=5))
    assert ask.take_snapshot(Snapshot(7, {"i:1": b"{}"}, kind=Kind("view")), bound)
    found = await ask.future
    assert (found.version, found.complete) == (7, 0)


async def test_what_is_no_answer_is_as_young_as_one_and_better_than_anything_stale() -> None:
    refused = Snapshot(7, {}, refused={"i:1": NotUnique("things", "name")})
    stale = FutureAsk(THINGS, 1, Wish(stale_if_error_seconds=60))
    stale.held = answer(190, 190, "l2")
    assert stale.take_snapshot(refused, bound)
    with pytest.raises(NotUnique):
        await stale.future
    late = FutureAsk(THINGS, 1, Wish(min_version=8))
    assert not late.take_snapshot(refused, bound) and not late.done()


async def test_the_end_of_the_process_cancels_who_waits() -> None:
    ask = FutureAsk(THINGS, 1)
    ask.fail(asyncio.CancelledError(), Bounds(PrimaryClock()))
    assert ask.future.cancelled()


def entry(body: bytes | None) -> bytes:
    """As Redis holds it at version 7."""
    kind, etag = (b"D", etag_of(body)) if body is not None else (b"N", b"0" * 16)
    version = to_hex(7).encode()
    header = (
        kind + b"0" + kind + version * 2 + b"0" * 16 + b"0" * 13 + digest(THINGS.locate(1)[0], THINGS.shows) + etag
    )
    return header + (body or b"")
