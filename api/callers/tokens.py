"""Tokens: JSON Web Tokens (RFC 7519, 8725) of one issuer, for this API.

Nothing that a token says decides how it is verified: the algorithms are those of the settings, the keys those of the
set, and a key is used only with the algorithms of its own type. What a token brings along (`jwk`, `jku`, `x5c`) is
not looked at; `kid` only picks among the keys that are there.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt

from neverstale.api.callers.caller import Caller, digest
from neverstale.api.callers.credentials import Unbelievable
from neverstale.api.callers.key_set import KeySet
from neverstale.api.callers.scopes import rights_in
from neverstale.settings import CallerSettings
from neverstale.settings.callers import listed

KID_LETTERS: Final = 256
NAME_LETTERS: Final = 512
NOT_VALID: Final = "The token is not valid."
EXPIRED: Final = "The token has expired."
REQUIRED: Final = ["exp", "iss", "aud", "sub"]
_DATES: Final = ("exp", "nbf", "iat")


class UnknownKid(Exception):
    """The token names a key that is not in the set. There may be a newer set."""


class Tokens:
    """Verifies tokens. It has no set of its own: which one holds is told with each token."""

    def __init__(self, settings: CallerSettings, clock: Callable[[], float]) -> None:
        self._algorithms = frozenset(listed(settings.algorithms))
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._leeway = settings.leeway_seconds
        self._scope_claim = settings.scope_claim
        self._clock = clock

    def caller(self, token: bytes, keys: KeySet) -> Caller:
        """Who the token speaks for. Raises `Unbelievable`, and `UnknownKid`."""
        try:
            return self._caller(token, keys)
        except (Unbelievable, UnknownKid):
            raise
        except jwt.ExpiredSignatureError:
            raise Unbelievable("expired", EXPIRED) from None
        except Exception:  # whatever a token makes a library raise: it is not one that we believe
            raise Unbelievable("token", NOT_VALID) from None

    def _caller(self, token: bytes, keys: KeySet) -> Caller:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms or "crit" in header or header.get("b64", True) is not True:
            raise Unbelievable("token", NOT_VALID)
        if kid is not None and (not isinstance(kid, str) or len(kid) > KID_LETTERS):
            raise Unbelievable("token", NOT_VALID)
        key = keys.find(kid, algorithm)
        if key is None:
            if kid is not None and not keys.has(kid):
                raise UnknownKid
            raise Unbelievable("token", NOT_VALID)
        claims = jwt.decode(
            token,
            key=key.of(algorithm),
            algorithms=[algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway,
            options={"require": REQUIRED},
        )
        return self._of(claims)

    def _of(self, claims: Mapping[str, Any]) -> Caller:
        if not all(_is_date(claims[name]) for name in _DATES if name in claims):
            raise Unbelievable("token", NOT_VALID)
        subject = claims["sub"]
        if not isinstance(subject, str) or not subject or len(subject) > NAME_LETTERS:
            raise Unbelievable("token", NOT_VALID)
        until = float(claims["exp"]) + self._leeway
        if not self._clock() < until:  # also what is no number
            raise Unbelievable("expired", EXPIRED)
        scopes = claims.get(self._scope_claim, "")
        rights = rights_in(scopes if isinstance(scopes, str | list) else "")
        return Caller(subject, rights, claims, until, digest(b"t" + subject.encode()))


def _is_date(value: Any) -> bool:
    """A number, as RFC 7519 wants it; the library would read one out of a text, too."""
    return isinstance(value, int | float) and not isinstance(value, bool)
