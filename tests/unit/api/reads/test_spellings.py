"""The lines under which an answer is kept are those that clients make of its key."""

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.reads.spellings import spellings


@given(st.text("aZ9-._~!$&'()*+,;=:@/%é", min_size=1, max_size=12))
def test_spellings_are_what_clients_make_of_a_key(text: str) -> None:
    as_clients_do = {quote(text, safe=safe) for safe in ("!$&'()*+,;=:@", "!'()*", "")}
    lines = {f"GET /v1/things/{each} HTTP/1.1".encode() for each in as_clients_do}
    assert set(spellings(b"/v1/things/", f"s:{text}")) == lines
