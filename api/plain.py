"""Plain requests: those that a hit answers whatever else they say, told from their headers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from api.wishes import etags_of


@dataclass(frozen=True, slots=True)
class Plain:
    """What a plain request's headers ask for."""

    gzip: bool = False
    etags: frozenset[bytes] = frozenset()
    """What `If-None-Match` lists."""

    def holds(self, etag: bytes) -> bool:
        """Whether the caller has this document already."""
        return etag in self.etags or b"*" in self.etags


PLAIN: Final = Plain()
GZIP: Final = Plain(gzip=True)

_UNUSUAL: Final = frozenset(
    (b"cache-control", b"neverstale-min-version", b"content-length", b"transfer-encoding", b"expect", b"upgrade")
)
"""Demands on freshness and bodies are not decided here."""
_READ: Final = _UNUSUAL | {b"connection", b"accept-encoding", b"if-none-match"}


def plain_of(headers: Iterable[tuple[bytes, bytes]]) -> Plain | None:
    """`headers`: with names in lower case; `None`: not a plain request. All other headers change no answer."""
    gzip, conditional = False, False
    for name, value in headers:
        if name in _READ:
            if name == b"accept-encoding":
                gzip = gzip or accepts_gzip(value)
            elif name == b"if-none-match":
                conditional = True
            elif name in _UNUSUAL or value.lower() != b"keep-alive":
                return None
    if conditional:
        return Plain(gzip, frozenset(etags_of(headers)))
    return GZIP if gzip else PLAIN


def accepts_gzip(value: bytes) -> bool:
    """Whether an `Accept-Encoding` names gzip with a weight above zero (RFC 9110, section 12.5.3)."""
    for part in value.split(b","):
        coding, _, weight = part.partition(b";")
        if coding.strip().lower() in (b"gzip", b"x-gzip"):
            return weight.replace(b" ", b"").lower() not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


def wants_gzip(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(accepts_gzip(value) for name, value in headers if name == b"accept-encoding")
