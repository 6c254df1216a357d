"""Plain requests: those that a hit answers whatever else they say, told from their headers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from api.web.compression import COMPRESS, Coding
from api.web.preconditions import IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, NO_TAGS, Tags, tags_of
from api.web.problems import Problem


@dataclass(frozen=True, slots=True)
class Plain:
    """What a plain request's headers ask for."""

    coding: Coding | None = None
    """How a body may be compressed."""
    none_match: Tags = NO_TAGS
    """What `If-None-Match` lists: what the caller has already."""


PLAIN: Final = Plain()
_CODED: Final = {coding: Plain(coding) for coding in COMPRESS}

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
_READ: Final = _UNUSUAL | {b"connection", b"accept-encoding", IF_NONE_MATCH}


def plain_of(headers: Iterable[tuple[bytes, bytes]]) -> Plain | None:
    """`headers`: with names in lower case; `None`: not a plain request. All other headers change no answer."""
    coding: Coding | None = None
    held: list[bytes] = []
    for name, value in headers:
        if name in _READ:
            if name == b"accept-encoding":
                coding = coding or accepted(value)
            elif name == IF_NONE_MATCH:
                held.append(value)
            elif name in _UNUSUAL or value.lower() != b"keep-alive":
                return None
    if held:
        try:
            return Plain(coding, tags_of(held, "If-None-Match"))
        except Problem:
            return None  # the ordinary way says what is wrong
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
    """Of `q=0.5`; what makes no sense is nothing to go by."""
    name, _, number = text.partition(b"=")
    if not text:
        return 1.0
    return float(number) if name.strip() == b"q" and _WEIGHT.fullmatch(number.strip()) else 0.0


def coding_of(headers: Iterable[tuple[bytes, bytes]]) -> Coding | None:
    for name, value in headers:
        if name == b"accept-encoding" and (coding := accepted(value)):
            return coding
    return None
