"""Who wants a stream, and of which states."""

import pytest

from neverstale.api.live.demands import live_wish, wants_events
from neverstale.api.web.demands import plain_of
from neverstale.api.web.problems import Problem

WANTING = [
    b"text/event-stream",
    b"Text/Event-Stream",
    b"text/event-stream;q=0.9, */*;q=0.1",
    b"text/html, text/event-stream",
    b"application/json;q=0.5, text/event-stream",
    b"text/event-stream; charset=utf-8",
]
OTHERS = [
    b"*/*",
    b"application/json",
    b"text/*",
    b"text/event-stream;q=0",
    b"application/json, text/event-stream;q=0.5",
    b"text/event-streams",
    b"text/event-stream;q=nonsense",
    b"",
]


@pytest.mark.parametrize("value", WANTING)
def test_a_stream_is_wanted_where_accept_names_it_and_likes_json_no_better(value: bytes) -> None:
    assert wants_events([(b"accept", value)])


@pytest.mark.parametrize("value", OTHERS)
def test_any_other_accept_wants_no_stream(value: bytes) -> None:
    assert not wants_events([(b"accept", value)])


@pytest.mark.parametrize("value", WANTING)
def test_the_fast_path_hands_on_what_may_want_a_stream(value: bytes) -> None:
    assert plain_of([(b"host", b"x"), (b"accept", value)]) is None
    assert plain_of([(b"host", b"x"), (b"accept", b"application/json")]) is not None


def test_browsers_no_cache_demands_nothing() -> None:
    wish = live_wish([(b"cache-control", b"no-cache, only-if-cached, stale-if-error=5")])
    assert not wish.demands
    assert not wish.only_if_cached


def test_the_last_event_id_is_a_version_that_nothing_may_fall_short_of() -> None:
    assert live_wish([(b"last-event-id", b"00000000000000ff")]).min_version == 255
    headers = [(b"last-event-id", b"00000000000000ff"), (b"neverstale-min-version", b"0000000000000100")]
    assert live_wish(headers).min_version == 256
    assert live_wish([(b"last-event-id", b"")]).min_version == 0


@pytest.mark.parametrize("value", [b"x", b"ff", b"00000000000000FF", "\u0664".encode() * 8, b"-000000000000001"])
def test_an_id_that_is_no_version_is_refused_by_name(value: bytes) -> None:
    with pytest.raises(Problem) as refused:
        live_wish([(b"last-event-id", value)])
    assert refused.value.members["parameter"] == "Last-Event-ID"
