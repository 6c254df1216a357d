"""What a stream says, read back as a browser would."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.live import events
from tests.support.events import parsed


@given(st.integers(0, 2**64 - 1), st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(0, 9)))
def test_a_state_is_read_as_it_was_written(version: int, document: dict[str, object]) -> None:
    block = events.bound_line(0.0521) + events.state(version, orjson.dumps(document))
    assert block.endswith(b"\n\n")
    told = parsed(block[:-2])
    assert (told.event, told.id, told.data, told.bound) == ("state", f"{version:016x}", document, "0.053")


def test_a_line_break_in_a_body_breaks_no_block() -> None:
    assert events.state(1, b'{\n"a":1}') == b'id: 0000000000000001\ndata: {\ndata: "a":1}\n\n'


def test_absences_and_problems_say_so() -> None:
    assert parsed(events.absent(1, b"{}")[:-2]).event == "absent"
    problem = parsed(events.trouble(b'{"status":503}')[:-2])
    assert (problem.event, problem.id, problem.data) == ("problem", "", {"status": 503})


def test_what_is_unknown_has_no_number() -> None:
    assert events.bound_line(None) == b": bound unknown\n"


def test_words_are_framed_as_http_wants_it() -> None:
    assert events.Words(b"x" * 17).chunk == b"11\r\n" + b"x" * 17 + b"\r\n"
