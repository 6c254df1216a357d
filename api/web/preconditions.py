"""Preconditions (RFC 9110, section 13): whether a caller wants what is there, told from the ETags and dates it sends.

Only what would be answered with 200 has preconditions: an absence is a 404, whatever the caller expects. They are
evaluated in this order (section 13.2.2):

    If-Match               none of its tags is the ETag, compared strongly     -> 412
    If-Unmodified-Since    (without If-Match) it was read later than that      -> 412
    If-None-Match          one of its tags is the ETag, compared weakly        -> 304

Nothing says when a document was last changed, only at which version it was read: it was not changed later than that.
So `If-Unmodified-Since` may fail for what was not changed. `If-Modified-Since` is ignored: a caller may hold what was
older than the date it sends, and would keep it for ever.
"""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from neverstale.api.web.problems import bad_parameter

Headers = Iterable[tuple[bytes, bytes]]
Verdict = Literal[200, 304, 412]

IF_MATCH: Final = b"if-match"
IF_NONE_MATCH: Final = b"if-none-match"
IF_UNMODIFIED_SINCE: Final = b"if-unmodified-since"

_READ: Final = frozenset((IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE))
_TAG: Final = re.compile(rb'[ \t]*(?:(W/)?"([^"]*)"[ \t]*)?(?:,|\Z)')
"""Of a list (RFC 9110, sections 5.6.1 and 8.8.3), with its comma. Commas, spaces and backslashes between quotes are
letters like any other."""
_DATES: Final = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""RFC 9110, section 5.6.7."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What a header lists: opaque tags, without their quotes."""

    listed: frozenset[bytes] = frozenset()
    strong: frozenset[bytes] = frozenset()
    """Those of them that are not weak."""
    any: bool = False
    """`*`."""

    def holds(self, etag: bytes) -> bool:
        """Compared weakly: whether the content is the same."""
        return etag in self.listed or self.any

    def holds_strongly(self, etag: bytes) -> bool:
        """Compared strongly: a weak tag is equal to nothing."""
        return etag in self.strong or self.any


NO_TAGS: Final = Tags()


@dataclass(frozen=True, slots=True)
class Conditions:
    match: Tags | None = None
    unmodified_since: float | None = None
    """Seconds since 1970."""
    none_match: Tags | None = None

    def verdict(self, etag: bytes, version: bytes) -> Verdict:
        """What a content that is there is answered with. `version`: 16 hex digits."""
        if self.match is not None:
            if not self.match.holds_strongly(etag):
                return 412
        elif self.unmodified_since is not None and int(version[:8], 16) > self.unmodified_since:
            return 412
        return 304 if self.none_match is not None and self.none_match.holds(etag) else 200


NO_CONDITIONS: Final = Conditions()


def conditions_of(headers: Headers) -> Conditions:
    """What a request's headers say; a `Problem` names one that makes no sense.

    A date that is none is ignored (section 13.1.4).
    """
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _READ:
            lines.setdefault(name, []).append(value)
    if not lines:
        return NO_CONDITIONS
    return Conditions(
        match=tags_of(lines[IF_MATCH], "If-Match") if IF_MATCH in lines else None,
        unmodified_since=_date(lines[IF_UNMODIFIED_SINCE]) if IF_UNMODIFIED_SINCE in lines else None,
        none_match=tags_of(lines[IF_NONE_MATCH], "If-None-Match") if IF_NONE_MATCH in lines else None,
    )


def tags_of(lines: Iterable[bytes], header: str) -> Tags:
    """The tags in all lines of a header; a `Problem` that names it if they are no list of tags."""
    value = b",".join(lines)
    if value.strip(b" \t") == b"*":
        return Tags(any=True)
    listed: set[bytes] = set()
    strong: set[bytes] = set()
    place = 0
    while place < len(value):
        match = _TAG.match(value, place)
        if match is None:
            raise bad_parameter(header, 'expected tags in quotes between commas, e.g. "0123456789abcdef", or *')
        weak, tag = match.groups()
        if tag is not None:
            listed.add(tag)
            if weak is None:
                strong.add(tag)
        place = match.end()
    return Tags(frozenset(listed), frozenset(strong))


def _date(lines: Iterable[bytes]) -> float | None:
    text = ", ".join(line.decode("latin-1").strip() for line in lines)
    for form in _DATES:
        try:
            return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC).timestamp()
        except ValueError:
            continue
    return None
