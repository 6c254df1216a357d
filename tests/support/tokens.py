"""An identity provider for tests: keys, the set that it publishes, and tokens, right and wrong ones."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from neverstale.settings import CallerSettings

ISSUER: Final = "https://login.test/"
AUDIENCE: Final = "https://api.test/"
TAKES_TOKENS: Final[dict[str, Any]] = {"jwks_file": "keys.json", "issuer": ISSUER, "audience": AUDIENCE}


def caller_settings(**fields: Any) -> CallerSettings:
    return CallerSettings.model_validate(TAKES_TOKENS | fields)


class Provider:
    """`kid`s are `rsa`, `ec` and `okp`, with a suffix of the provider's own."""

    def __init__(self, suffix: str = "") -> None:
        self._suffix = suffix

    @cached_property
    def rsa(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def ec(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def okp(self) -> ed25519.Ed25519PrivateKey:
        return ed25519.Ed25519PrivateKey.generate()

    def kid(self, name: str) -> str:
        return name + self._suffix

    def published(self, *names: str) -> dict[str, Any]:
        """The set with these keys; without names all three."""
        made: dict[str, Any] = {
            "rsa": lambda: RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True),
            "ec": lambda: ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True),
            "okp": lambda: OKPAlgorithm.to_jwk(self.okp.public_key(), as_dict=True),
        }
        return {"keys": [made[name]() | {"kid": self.kid(name), "use": "sig"} for name in names or made]}

    def text(self, *names: str) -> bytes:
        return json.dumps(self.published(*names)).encode()

    def token(self, name: str = "ec", algorithm: str = "ES256", /, *, header: Any = None, **claims: Any) -> str:
        """A good token, but for the claims (`None`: left out) and fields of the header that are given."""
        kid = {"kid": self.kid(name)} | (header or {})
        held = {each: value for each, value in kid.items() if value is not None}
        text = json.dumps(claims_of(**claims)).encode()  # of any types, which `jwt.encode` would refuse
        return jwt.PyJWS().encode(text, getattr(self, name), algorithm=algorithm, headers=held)


def claims_of(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 600, "scope": "read:things"}
    return {name: value for name, value in (claims | changes).items() if value is not None}


def encoded(part: Mapping[str, Any] | bytes) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forged(header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes, signature: bytes = b"") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


def signed_with_secret(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    """HS256 with whatever an attacker takes for the secret: a public key is known to everybody."""
    signing = f"{encoded(header)}.{encoded(claims)}"
    return f"{signing}.{encoded(hmac.new(secret, signing.encode(), hashlib.sha256).digest())}"
