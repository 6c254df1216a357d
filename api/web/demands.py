"""A request's demands in its headers: `Cache-Control` (RFC 9111, RFC 5861) and `Neverstale-Min-Version`.

What is said more than once, in one line or in several, counts as the strictest of it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from api.reads.wish import ANYTHING, Wish
from api.web.problems import MIN_VERSION, Problem, bad_parameter
from neverstale.versions import Version, from_hex

Headers = Iterable[tuple[bytes, bytes]]

CACHE_CONTROL: Final = "Cache-Control"
FOREVER: Final = 2**31
"""RFC 9111, section 1.2.2: a number of seconds too large to be represented means this."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_DIRECTIVE: Final = re.compile(
    rb"[ \t]*(?:(%b)(?:=(?:(%b)|\"((?:[^\"\\]|\\.)*)\"))?[ \t]*)?(?:,|$)" % (_TOKEN, _TOKEN), re.DOTALL
)
"""Of a list (RFC 9110, sections 5.6.1, 5.6.2 and 5.6.4), with its comma: name, argument, or quoted argument. Elements
may be empty."""
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


def wish_of(headers: Headers) -> Wish:
    """The demands; a `Problem` names a header or directive that makes no sense. Directives of others are ignored."""
    seconds: dict[bytes, float] = {}
    flags: set[bytes] = set()
    min_version: Version = 0
    for name, value in headers:
        if name == b"cache-control":
            for directive, argument in _directives(value):
                if directive in (b"max-age", b"stale-if-error"):
                    seconds[directive] = min(_seconds(directive, argument), seconds.get(directive, FOREVER))
                elif directive in (b"no-cache", b"only-if-cached"):
                    if argument is not None:
                        raise _bad_directive(directive, "takes no argument")
                    flags.add(directive)
        elif name == b"neverstale-min-version":
            min_version = max(min_version, _version(value))
    if not seconds and not flags and not min_version:
        return ANYTHING
    return Wish(
        max_age_seconds=seconds.get(b"max-age"),
        no_cache=b"no-cache" in flags,
        only_if_cached=b"only-if-cached" in flags,
        min_version=min_version,
        stale_if_error_seconds=seconds.get(b"stale-if-error"),
    )


def _directives(value: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Names in lower case, and arguments without quotes."""
    place = 0
    while place < len(value):
        match = _DIRECTIVE.match(value, place)
        if match is None:
            raise bad_parameter(CACHE_CONTROL, "expected directives between commas, e.g. max-age=5, only-if-cached")
        name, argument, quoted = match.groups()
        if name is not None:
            yield name.lower(), argument if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
        place = match.end()


def _seconds(directive: bytes, argument: bytes | None) -> float:
    if argument is None or not argument.isdigit():
        raise _bad_directive(directive, f"wants whole seconds, e.g. {directive.decode()}=5")
    return min(int(argument.lstrip(b"0")[:11] or b"0"), FOREVER)


def _bad_directive(directive: bytes, detail: str) -> Problem:
    return bad_parameter(CACHE_CONTROL, f"{directive.decode()} {detail}")


def _version(value: bytes) -> Version:
    """The highest of a list; elements may be empty, but not all of them."""
    texts = [text for part in value.split(b",") if (text := part.strip(b" \t"))]
    try:
        return max(from_hex(text) for text in texts)
    except ValueError:
        raise bad_parameter(MIN_VERSION, "expected 16 lower-case hex digits, as in Neverstale-Version") from None
