"""The request lines under which a document's answers are kept in L1.

A key has as many lines as there are ways to escape it, and the answers under all of them must vanish when it changes.
So answers are kept only under the spellings that clients really use, which can be told from the key: reserved
characters as they are (browsers, curl, httpx), and escaped as `encodeURIComponent` or as Python's
`quote(key, safe="")` does it.
"""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from neverstale.keys import value_of

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
_RESERVED: Final = "!$&'()*+,;=:@"
_SEGMENT: Final = re.compile(rf"[A-Za-z0-9._~{_RESERVED}-]*")
_ESCAPE: Final = {letter: quote(letter, safe="") for letter in _RESERVED}
_UNESCAPED: Final = (_RESERVED, "!'()*", "")
"""What each of the spellings leaves as it is."""


def spellings(path: bytes, canonical_key: str) -> Collection[bytes]:
    """All lines of `GET` for the key below this path. It must have one of the types of declared keys."""
    text = canonical_key[2:] if canonical_key[0] != "u" else str(value_of(canonical_key))
    if _UNRESERVED.fullmatch(text):
        return (b"GET %b%b HTTP/1.1" % (path, text.encode()),)
    if _SEGMENT.fullmatch(text):
        escaped = _spellings_of_segment(text)
    else:
        escaped = {quote(text, safe=safe) for safe in _UNESCAPED}
    return [b"GET %b%b HTTP/1.1" % (path, each.encode()) for each in escaped]


def _spellings_of_segment(text: str) -> set[str]:
    """Does as `quote` would, but much faster: every process spells every change."""
    component = all_escaped = text
    for letter in set(text).intersection(_RESERVED):
        all_escaped = all_escaped.replace(letter, _ESCAPE[letter])
        if letter not in _UNESCAPED[1]:
            component = component.replace(letter, _ESCAPE[letter])
    return {text, component, all_escaped}
