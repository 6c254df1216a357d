"""Messages as somebody else might write them under our names."""

import json
from typing import Any, Final

import orjson
from hypothesis import strategies as st

LAST: Final = 0x7000_0000_0000_0000
"""The latest version that can be true."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def patched(sound: bytes) -> st.SearchStrategy[bytes]:
    """A message with one of its fields replaced by any JSON, or gone, or one that is cut."""
    fields: dict[str, Any] = orjson.loads(sound)
    names = st.sampled_from(sorted(fields))
    replaced = st.tuples(names, JSON).map(lambda pair: json.dumps(fields | {pair[0]: pair[1]}).encode())
    gone = names.map(lambda name: json.dumps({key: value for key, value in fields.items() if key != name}).encode())
    return replaced | gone | st.integers(0, len(sound)).map(lambda end: sound[:end]) | st.binary()
