"""Credentials: what a request shows, `Authorization: Bearer …` (RFC 6750). Nothing else is looked at.

What is there and makes no sense is a 401, also where nobody need show anything: who sends credentials wants them to
be believed.
"""

import re
from collections.abc import Iterable
from typing import Final

from neverstale.api.web.problems import Problem, invalid_credentials

MOST_BYTES: Final = 8192
"""Of a token. Larger ones are not looked at."""

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class Unbelievable(Exception):
    """Credentials that show nothing. `reason` is for metrics: one of a closed list."""

    def __init__(self, reason: str, detail: str, error: str = "invalid_token") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.error = error

    def problem(self) -> Problem:
        return invalid_credentials(self.detail, self.error)


def credential_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key or token that a request shows (names in lower case); `None`: none. Raises `Unbelievable`."""
    shown: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if shown is not None:
                raise Unbelievable("malformed", "There is more than one Authorization header.", "invalid_request")
            shown = value
    return None if shown is None else _bearer(shown)


def _bearer(value: bytes) -> bytes:
    if len(value) > MOST_BYTES:
        raise Unbelievable("malformed", "The credentials are too long.")
    match = _BEARER.fullmatch(value.strip(b" \t"))
    if match is None:
        raise Unbelievable("malformed", "Authorization is not `Bearer` and a key or token.", "invalid_request")
    return match[1]
