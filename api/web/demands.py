"""A request's demands in its headers: `Cache-Control` (RFC 9111, RFC 5861) and `Neverstale-Min-Version`; and plain
requests, which demand nothing of these: a hit answers them whatever else they say.

What is said more than once, in one line or in several, counts as the strictest of it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from neverstale.api.reads.answer import ANYTHING, AUDIT, Wish
from neverstale.api.web.compression import COMPRESS, Coding
from neverstale.api.web.preconditions import (
    IF_MATCH,
    IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
    NO_CONDITIONS,
    Conditions,
    tags_of,
)
from neverstale.api.web.problems import MIN_VERSION, Problem, bad_parameter
from neverstale.versions import Version, from_hex

Headers = Iterable[tuple[bytes, bytes]]

CACHE_CONTROL: Final = "Cache-Control"
AUDITS: Final = b"neverstale-audit"
"""The header by which an auditor's questions are told from readers'. Whoever sends it is counted as no reader."""
FOREVER: Final = 2**31
"""RFC 9111, section 1.2.2: a number of seconds too large to be represented means this."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_DIRECTIVE: Final = re.compile(
    rb"[ \t]*(?:(%b)(?:=(?:(%b)|\"((?:[^\"\\]|\\.)*)\"))?[ \t]*)?(?:,|\Z)" % (_TOKEN, _TOKEN), re.DOTALL
)
"""Of a list (RFC 9110, sections 5.6.1, 5.6.2 and 5.6.4), with its comma: name, argument, or quoted argument. Elements
may be empty. `$` would match before a line feed that ends the value, too, for ever."""
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Plain:
    """What a plain request's headers ask for."""

    coding: Coding | None = None
    """How a body may be compressed."""
    conditions: Conditions = NO_CONDITIONS
    """What the caller has already (`If-None-Match`)."""
    audit: bool = False
    """An auditor asks."""


PLAIN: Final = Plain()
_CODED: Final = {coding: Plain(coding) for coding in COMPRESS}
_AUDIT: Final = Plain(audit=True)

_UNUSUAL: Final = frozenset(
    (
        b"cache-control",
        b"neverstale-min-version",
        IF_MATCH,
        IF_UNMODIFIED_SINCE,
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
    )
)
"""Demands on freshness, most preconditions and bodies are not decided here."""
_WEIGHT: Final = re.compile(rb"[01](\.\d{0,3})?")
_READ: Final = _UNUSUAL | {b"connection", b"accept", b"accept-encoding", IF_NONE_MATCH, AUDITS}
EVENTS: Final = b"text/event-stream"


def wish_of(headers: Headers) -> Wish:
    """The demands; a `Problem` names a header or directive that makes no sense. Directives of others are ignored."""
    seconds: dict[bytes, float] = {}
    flags: set[bytes] = set()
    min_version: Version = 0
    audit = False
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
        elif name == AUDITS:
            audit = True
    if not seconds and not flags and not min_version:
        return AUDIT if audit else ANYTHING
    return Wish(
        max_age_seconds=seconds.get(b"max-age"),
        no_cache=b"no-cache" in flags,
        only_if_cached=b"only-if-cached" in flags,
        min_version=min_version,
        stale_if_error_seconds=seconds.get(b"stale-if-error"),
        audit=audit,
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


def plain_of(headers: Headers) -> Plain | None:
    """`headers`: with names in lower case; `None`: not a plain request. All other headers change no answer."""
    coding: Coding | None = None
    audit = False
    held: list[bytes] = []
    for name, value in headers:
        if name in _READ:
            if name == b"accept-encoding":
                coding = coding or accepted(value)
            elif name == b"accept":
                if EVENTS in value.lower():
                    return None  # a stream, if anything
            elif name == IF_NONE_MATCH:
                held.append(value)
            elif name == AUDITS:
                audit = True
            elif name in _UNUSUAL or value.lower() != b"keep-alive":
                return None
    if held:
        try:
            return Plain(coding, Conditions(none_match=tags_of(held, "If-None-Match")), audit)
        except Problem:
            return None  # the ordinary way says what is wrong
    if audit:
        return Plain(coding, audit=True) if coding else _AUDIT
    return _CODED[coding] if coding else PLAIN


@lru_cache(maxsize=256)
def accepted(value: bytes) -> Coding | None:
    """What an `Accept-Encoding` likes best of what we have (RFC 9110, section 12.5.3)."""
    weights = {}
    for part in value.split(b","):
        coding, _, weight = part.partition(b";")
        weights[coding.strip().lower().removeprefix(b"x-")] = _weight(weight.strip().lower())
    best = max(COMPRESS, key=lambda coding: weights.get(coding, 0.0))
    return best if weights.get(best) else None


def _weight(text: bytes) -> float:
    """The weight that `q=0.5` gives; what makes no sense gives none."""
    name, _, number = text.partition(b"=")
    if not text:
        return 1.0
    return float(number) if name.strip() == b"q" and _WEIGHT.fullmatch(number.strip()) else 0.0


def coding_of(headers: Headers) -> Coding | None:
    for name, value in headers:
        if name == b"accept-encoding" and (coding := accepted(value)):
            return coding
    return None
