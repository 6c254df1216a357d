"""The public keys of an identity provider (JWKS, RFC 7517): which of them verifies a token. None of them can sign."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from jwt import PyJWK, PyJWTError

MOST_BYTES: Final = 1 << 20
MOST_KEYS: Final = 256
LEAST_RSA_BITS: Final = 2048

_FAMILIES: Final[Mapping[str, tuple[str, str | None]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Algorithm -> the type and the curve of its keys. A key is tried with no other: not an RSA key as the secret of an
HMAC, and not one curve's key with another's signature."""
_PUBLIC: Final = ("kty", "crv", "n", "e", "x", "y", "kid", "alg", "use", "key_ops")


class WrongKeySet(Exception):
    """What was published is no set of keys that can be used."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    kid: str | None
    fields: Mapping[str, Any]
    _made: dict[str, PyJWK] = field(default_factory=dict, compare=False)

    def verifies(self, algorithm: str) -> bool:
        """Whether the set means it for signatures of this algorithm."""
        kind, curve = _FAMILIES[algorithm]
        held = self.fields
        return (
            held.get("kty") == kind
            and (curve is None or held.get("crv") == curve)
            and held.get("alg") in (None, algorithm)
            and held.get("use") in (None, "sig")
            and ("key_ops" not in held or "verify" in held["key_ops"])
        )

    def of(self, algorithm: str) -> PyJWK:
        """Raises `PyJWTError` if the set says something else than a key."""
        made = self._made.get(algorithm)
        if made is None:
            made = self._made[algorithm] = PyJWK(dict(self.fields), algorithm)
        return made


class KeySet:
    """The keys that one reply, or one file, holds."""

    def __init__(self, keys: Iterable[PublicKey], digest: str) -> None:
        self._keys = tuple(keys)
        self.digest = digest
        """Equal for equal sets."""

    @classmethod
    def of(cls, text: bytes) -> "KeySet":
        """Raises `WrongKeySet`. Keys of other kinds than ours, and those that are too weak, are left out."""
        if len(text) > MOST_BYTES:
            raise WrongKeySet(f"it has more than {MOST_BYTES} bytes")
        try:
            entries = json.loads(text)["keys"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise WrongKeySet("it is no JSON object with `keys`") from None
        if not isinstance(entries, list):
            raise WrongKeySet("its `keys` are no list")
        keys: list[PublicKey] = []
        for entry in entries[:MOST_KEYS]:
            if (key := _usable(entry)) is not None and key not in keys:
                keys.append(key)
        if not keys:
            raise WrongKeySet("it has no key that can verify a token")
        return cls(keys, sha256(text).hexdigest())

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key with this id for this algorithm. Without an id the only one there is for it."""
        found = [key for key in self._keys if key.verifies(algorithm) and (kid is None or key.kid == kid)]
        return found[0] if len(found) == 1 else None

    def has(self, kid: str) -> bool:
        return any(key.kid == kid for key in self._keys)


def _usable(entry: Any) -> PublicKey | None:
    if not isinstance(entry, dict):
        return None
    fields = {name: entry[name] for name in _PUBLIC if name in entry}  # a private part is none of our business
    kid = fields.get("kid")
    if not isinstance(kid, str | None) or not isinstance(fields.get("key_ops", []), list):
        return None
    key = PublicKey(kid, fields)
    algorithm = next((name for name in _FAMILIES if key.verifies(name)), None)
    try:
        made = key.of(algorithm).key if algorithm is not None else None
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    if made is None or (getattr(made, "key_size", LEAST_RSA_BITS) < LEAST_RSA_BITS and fields["kty"] == "RSA"):
        return None
    return key
