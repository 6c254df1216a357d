"""Pages of other origins: what browsers must be told so that they may read answers (Fetch standard, CORS).

Every answer says which origin it is for, also one that is for none: whoever keeps it must not hand it to another.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from neverstale.api.web.headers import RawHeaders
from neverstale.settings import Cors
from neverstale.settings.callers import listed

EXPOSED: Final = (
    b"age, cache-status, etag, neverstale-bound, neverstale-version, ratelimit, ratelimit-policy, retry-after, "
    b"www-authenticate"
)
"""Of answers; pages may read no others."""
ALLOWED: Final = (
    b"authorization, cache-control, content-type, if-match, if-none-match, if-unmodified-since, last-event-id, "
    b"neverstale-min-version"
)
"""Of requests; pages may send no others."""

Headers = Iterable[tuple[bytes, bytes]]


class CrossOrigin:
    """The rules of one API."""

    def __init__(self, settings: Cors) -> None:
        origins = listed(settings.origins)
        self.on = bool(origins)
        self._every = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)
        self._credentials = settings.credentials
        self._max_age = settings.max_age_seconds

    def lines(self, headers: Headers) -> bytes:
        """Further header lines of an answer to a request with these headers (names in lower case)."""
        if not self.on:
            return b""
        origin = _origin(headers)
        if not self._allows(origin):
            return b"vary: origin\r\n"
        named = b"*" if self._every else origin
        text = b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\n" % (named, EXPOSED)
        if self._credentials:
            text += b"access-control-allow-credentials: true\r\n"
        return text if self._every else text + b"vary: origin\r\n"

    def preflight(self, headers: Headers, methods: Sequence[str]) -> RawHeaders | None:
        """The headers of the answer to a request that asks whether another one may be sent, besides `lines`; `None`:
        it asks nothing of the kind. `methods`: those of what it asks about."""
        headers = list(headers)
        origin = _origin(headers)
        if not self.on or not origin or not any(name == b"access-control-request-method" for name, _ in headers):
            return None
        asked = (b"vary", b"access-control-request-method, access-control-request-headers")
        if not self._allows(origin):
            return [asked]
        return [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-allow-headers", ALLOWED),
            (b"access-control-max-age", b"%d" % self._max_age),
            asked,
        ]

    def _allows(self, origin: bytes) -> bool:
        return self._every or origin in self._origins


def _origin(headers: Headers) -> bytes:
    """Empty: none, or more than one."""
    found = [value for name, value in headers if name == b"origin"]
    return found[0] if len(found) == 1 else b""
