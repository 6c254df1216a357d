"""The bytes of a stream, in whatever pieces they come, say the same."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.client import event_stream
from neverstale.client.event_stream import BoundTold, EventStream, LiveEvent, RetryTold, Told
from neverstale.client.failures import Unintelligible

STREAM = (
    b'\xef\xbb\xbfretry: 1500\n\n: bound 0.052\nid: 5117a1b300000001\ndata: {"a":"x\xe2\x80\xa8y"}\n\n'
    b": bound unknown\r\n\r\n: hello\nevent: absent\rid: 5117a1b300000002\rdata:{}\r\r"
    b"event: problem\ndata: {\ndata: }\n\nid: \0\nwhat: ever\nretry: soon\nevent: nothing\n\ndata: half"
)
SAID: list[Told] = [
    RetryTold(1.5),
    BoundTold(0.052),
    LiveEvent("message", "5117a1b300000001", '{"a":"x\u2028y"}'.encode()),
    BoundTold(None),
    LiveEvent("absent", "5117a1b300000002", b"{}"),
    LiveEvent("problem", "5117a1b300000002", b"{\n}"),
]


def said(*chunks: bytes) -> list[Told]:
    stream = EventStream()
    return [one for chunk in chunks for one in stream.feed(chunk)]


def test_a_stream_says_states_bounds_and_when_to_come_back() -> None:
    assert said(STREAM) == SAID


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    assert said(*(STREAM[one:two] for one, two in pairwise(places))) == SAID


def test_byte_by_byte_it_is_the_same() -> None:
    assert said(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == SAID


@pytest.mark.parametrize("line", [b"data: " + b"x" * 50, b"data: xxxxxxxxx\n" * 10])
def test_an_event_without_an_end_is_given_up(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_BYTES", 40)
    with pytest.raises(Unintelligible):
        said(line)


@given(st.binary(max_size=80))
def test_noise_is_no_error(noise: bytes) -> None:
    said(noise, b"\n\n")
