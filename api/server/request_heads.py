"""What of a request's head is checked before anybody answers it: what HTTP/1.1 wants of every request (RFC 9112).

The parser has refused by then what has no form at all: a line or a name with characters that may not be there, folded
header lines, lengths that are none or that contradict each other or a transfer coding.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from httptools import parse_url

from neverstale.api.web.problems import Problem, bad_parameter, malformed, unknown_coding, unknown_version

HOST_BYTES: Final = 1024

_VERSIONS: Final = ("1.1", "1.0")
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
    rb"(?::[0-9]*)?"
)
"""RFC 3986, sections 3.2.2 and 3.2.3. It may be empty: a target that has no host has none to repeat."""
_FRAMING: Final = (b"content-length", b"transfer-encoding")


def wrong_with(version: str, headers: Sequence[tuple[bytes, bytes]]) -> Problem | None:
    """Why this is no request that can be answered; where the next one begins may be unknown, too."""
    host: bytes | None = None
    codings: list[bytes] | None = None
    for name, value in headers:
        if name == b"host":
            if host is not None and version in _VERSIONS:
                return bad_parameter("Host", "is there twice")
            host = value
        elif name == b"transfer-encoding":
            codings = [*(codings or ()), value]
    if version not in _VERSIONS:
        return unknown_version()
    if host is None:
        if version == "1.1":
            return bad_parameter("Host", "is missing")
    elif len(host) > HOST_BYTES or not _is_host(host):
        return bad_parameter("Host", "is not the name of a host")
    return None if codings is None else _wrong_coding(version, codings)


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value.strip(b" \t")) is not None


def _wrong_coding(version: str, codings: Sequence[bytes]) -> Problem | None:
    if version != "1.1":
        return malformed()  # RFC 9112, section 6.1: where such a body ends is anybody's guess
    return None if b",".join(codings).strip(b" \t,").lower() == b"chunked" else unknown_coding()


def origin_form(target: bytes) -> bytes:
    """A target that is no path as a path with its query: proxies are given whole URLs, which may lack a path (RFC
    9112, section 3.2.2). Raises `HttpParserInvalidURLError`."""
    if target == b"*":
        return target
    url = parse_url(target)
    query = b"" if url.query is None else b"?" + url.query
    return (url.path or b"/") + query


def body_head(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A head that says nothing but how the body of a request with these headers is framed; empty: it has none."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers if header[0] in _FRAMING)
    return b"POST / HTTP/1.1\r\nHost:\r\n%b\r\n" % lines if lines else b""
