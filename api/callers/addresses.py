"""Where a request comes from: what its limit is counted by if its caller has shown no credentials.

It is the value of a header, if a setting names one, else an address: the connection's, or, behind proxies of ours,
the one that the outermost of them has written into `X-Forwarded-For`. Every proxy appends the address that it was
asked from, so with n of them the n-th entry from the right is true and whatever stands before it is hearsay.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from neverstale.api.callers.caller import digest
from neverstale.settings import Limits

FORWARDED: Final = b"x-forwarded-for"
V6_PREFIX: Final = 64
"""Of an IPv6 address: who has one usually has all that begin alike."""
LETTERS: Final = 64
"""No address has more, whatever is written around it."""

_WITH_PORT: Final = re.compile(
    r"(?:([0-9.]+)|\[([^\[\]]+)\]|((?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}))(?::[0-9]{1,5})?", re.ASCII
)
"""`192.0.2.1:4711`, `[2001:db8::1]`, `[2001:db8::1]:4711`, as some proxies write it."""


class Addresses:
    """Names where requests come from, as bytes that give away neither key nor address."""

    def __init__(self, settings: Limits) -> None:
        self._header = settings.key_header.lower().encode() if settings.key_header is not None else None
        self._proxies = settings.trusted_proxies

    def named(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """What headers name (their names in lower case); empty: nothing, the connection's address counts."""
        if self._header is None and not self._proxies:
            return b""
        forwarded: list[bytes] = []
        for name, value in headers:
            if name == self._header and value:
                return digest(b"k" + value)
            if name == FORWARDED:
                forwarded += value.split(b",")
        if not 0 < self._proxies <= len(forwarded):
            return b""
        return of_address(forwarded[-self._proxies].strip().decode("latin-1"))


def of_address(text: str) -> bytes:
    """The caller at an address, with or without a port; empty if it is none."""
    return _of_address(text) if len(text) <= LETTERS else b""


@lru_cache(4096)
def _of_address(text: str) -> bytes:
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address(text if match is None else match[match.lastindex or 0])
    except ValueError:
        return b""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _of_address(str(address.ipv4_mapped))
        return digest(b"a" + str(ip_network((int(address) >> V6_PREFIX << V6_PREFIX, V6_PREFIX))).encode())
    return digest(b"a" + str(address).encode())


UNKNOWN: Final = b"unknown"
"""Callers without an address, e.g. on a Unix socket."""


def of_peer(peer: tuple[str, int] | None) -> bytes:
    return (of_address(peer[0]) if peer is not None else b"") or UNKNOWN
