"""Tokens: good ones are believed, and everything that is thought of to forge one is not."""

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.callers.credentials import Unbelievable
from neverstale.api.callers.key_set import KeySet, WrongKeySet
from neverstale.api.callers.tokens import Tokens, UnknownKid
from tests.support.tokens import (
    Provider,
    caller_settings,
    claims_of,
    encoded,
    forged,
    signed_with_secret,
)

PROVIDER = Provider()
STRANGER = Provider()
"""Has keys of its own, with the same ids."""
KEYS = KeySet.of(PROVIDER.text())
TOKENS = Tokens(caller_settings(), time.time)


@pytest.mark.parametrize(
    ("key", "algorithm"), [("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256"), ("okp", "EdDSA")]
)
def test_a_token_of_the_provider_is_believed(key: str, algorithm: str) -> None:
    caller = TOKENS.caller(PROVIDER.token(key, algorithm, tenant="acme").encode(), KEYS)
    assert (caller.name, caller.claims["tenant"]) == ("someone", "acme")
    assert caller.rights.may_read("things", "documents")
    assert caller.until == pytest.approx(time.time() + 610, abs=60)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aud", lambda now: ["https://other.test/", "https://api.test/"]),
        ("exp", lambda now: now - 1),
        ("nbf", lambda now: now + 5),
        ("iat", lambda now: None),
        ("scope", lambda now: None),
        ("scope", lambda now: ["read:things"]),
    ],
)
def test_what_is_within_the_rules_is_believed(name: str, value: Callable[[float], Any]) -> None:
    tokens = Tokens(caller_settings(leeway_seconds=300), time.time)
    claims = {name: value(time.time())}
    assert tokens.caller(PROVIDER.token(**claims).encode(), KEYS).name == "someone"


def test_a_token_without_kid_is_verified_by_the_only_key_that_can() -> None:
    assert TOKENS.caller(PROVIDER.token(header={"kid": None}).encode(), KEYS).name == "someone"


def public_pem() -> bytes:
    return PROVIDER.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def swapped(first: str, second: str) -> str:
    """The signature of another token of the same key."""
    return first.rpartition(".")[0] + "." + second.rpartition(".")[2]


def with_kid(kid: Any) -> str:
    signing = PROVIDER.token().split(".")
    return ".".join((encoded({"alg": "ES256", "typ": "JWT", "kid": kid}), *signing[1:]))


def with_claims(**changes: Any) -> str:
    """Signed by the provider, whatever it says; `null` included."""
    text = json.dumps(claims_of() | changes).encode()
    return jwt.PyJWS().encode(text, PROVIDER.ec, algorithm="ES256", headers={"kid": "ec"})


FORGED: dict[str, Callable[[], str]] = {
    "alg none": lambda: forged({"alg": "none", "kid": "ec"}, claims_of()),
    "alg None, in other letters": lambda: forged({"alg": "nOnE"}, claims_of()),
    "no alg": lambda: forged({"kid": "ec"}, claims_of()),
    "alg is no text": lambda: forged({"alg": ["ES256"], "kid": "ec"}, claims_of()),
    "alg is a number": lambda: forged({"alg": 1, "kid": "ec"}, claims_of()),
    "HS256 with the public key": lambda: signed_with_secret(
        {"alg": "HS256", "kid": "rsa"}, claims_of(), public_pem()
    ),
    "HS256 with the published set": lambda: signed_with_secret(
        {"alg": "HS256", "kid": "rsa"}, claims_of(), PROVIDER.text("rsa")
    ),
    "HS256 with the public key of another id": lambda: signed_with_secret(
        {"alg": "HS256", "kid": "ec"}, claims_of(), public_pem()
    ),
    "HS256 with the DER of the public key": lambda: signed_with_secret(
        {"alg": "HS256", "kid": "rsa"},
        claims_of(),
        PROVIDER.rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ),
    "HS256 that says it is RS256": lambda: signed_with_secret(
        {"alg": "RS256", "kid": "rsa"}, claims_of(), public_pem()
    ),
    "HS256 with nothing": lambda: signed_with_secret({"alg": "HS256"}, claims_of(), b""),
    "another provider's key with the same id": lambda: STRANGER.token(),
    "RS256 with the key of ES256": lambda: PROVIDER.token("rsa", "RS256", header={"kid": "ec"}),
    "ES256 with the key of RS256": lambda: PROVIDER.token("ec", "ES256", header={"kid": "rsa"}),
    "EdDSA with the key of ES256": lambda: PROVIDER.token("okp", "EdDSA", header={"kid": "ec"}),
    "an algorithm that is not wanted": lambda: PROVIDER.token("rsa", "RS512"),
    "swapped signature": lambda: swapped(PROVIDER.token(), PROVIDER.token(sub="other")),
    "changed claims": lambda: swapped(
        forged({"alg": "ES256", "kid": "ec"}, claims_of(sub="admin")), PROVIDER.token()
    ),
    "no signature": lambda: PROVIDER.token().rpartition(".")[0] + ".",
    "two parts": lambda: PROVIDER.token().rpartition(".")[0],
    "four parts": lambda: PROVIDER.token() + ".x",
    "its own key": lambda: STRANGER.token(header={"jwk": STRANGER.published("ec")["keys"][0]}),
    "a key elsewhere": lambda: STRANGER.token(header={"jku": "https://evil.test/jwks.json"}),
    "crit": lambda: PROVIDER.token(header={"crit": ["exp"]}),
    "b64": lambda: forged({"alg": "ES256", "kid": "ec", "b64": False, "crit": ["b64"]}, b"", b"x" * 64),
    "wrong issuer": lambda: PROVIDER.token(iss="https://evil.test/"),
    "issuer begins alike": lambda: PROVIDER.token(iss="https://login.test/evil"),
    "issuers": lambda: PROVIDER.token(iss=["https://login.test/"]),
    "no issuer": lambda: PROVIDER.token(iss=None),
    "wrong audience": lambda: PROVIDER.token(aud="https://other.test/"),
    "no audience": lambda: PROVIDER.token(aud=None),
    "audience is an object": lambda: PROVIDER.token(aud={"https://api.test/": 1}),
    "expired": lambda: PROVIDER.token(exp=int(time.time()) - 60),
    "no end": lambda: PROVIDER.token(exp=None),
    "end is a text": lambda: PROVIDER.token(exp="soon"),
    "end is a number in a text": lambda: PROVIDER.token(exp=str(int(time.time()) + 60)),
    "end is true": lambda: PROVIDER.token(exp=True),
    "end is a list": lambda: PROVIDER.token(exp=[int(time.time()) + 60]),
    "end is null": lambda: with_claims(exp=None),
    "not before, in a text": lambda: PROVIDER.token(nbf=str(int(time.time()) - 60)),
    "made, in a text": lambda: PROVIDER.token(iat=str(int(time.time()) - 60)),
    "not yet, by far": lambda: PROVIDER.token(nbf=2**62),
    "end is no number": lambda: PROVIDER.token(exp=float("nan")),
    "end is endless": lambda: PROVIDER.token(exp=float("inf")),
    "not yet": lambda: PROVIDER.token(nbf=int(time.time()) + 60),
    "made in the future": lambda: PROVIDER.token(iat=int(time.time()) + 60),
    "no subject": lambda: PROVIDER.token(sub=None),
    "empty subject": lambda: PROVIDER.token(sub=""),
    "huge subject": lambda: PROVIDER.token(sub="x" * 1000),
    "subject is a number": lambda: PROVIDER.token(sub=1),
    "kid is a list": lambda: with_kid(["ec"]),
    "kid is an object": lambda: with_kid({"ec": 1}),
    "kid is a number": lambda: with_kid(0),
    "kid is long": lambda: with_kid("x" * 300),
    "deep header": lambda: forged(b"[" * 3000 + b"]" * 3000, claims_of()),
    "deep claims": lambda: forged({"alg": "ES256", "kid": "ec"}, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"x" * 64),
    "header is a list": lambda: forged(b'["ES256"]', claims_of()),
    "header is no JSON": lambda: forged(b"{", claims_of()),
    "claims are a list": lambda: forged({"alg": "ES256", "kid": "ec"}, b"[]", b"x" * 64),
    "no base64": lambda: "!.!.!",
    "empty": lambda: "..",
    "encrypted": lambda: forged({"alg": "RSA-OAEP", "enc": "A256GCM"}, b"", b"x") + ".x.x",
}


@pytest.mark.parametrize("made", FORGED.values(), ids=FORGED)
def test_nothing_else_is(made: Callable[[], str]) -> None:
    token = made()
    with pytest.raises(Unbelievable) as refused:
        TOKENS.caller(token.encode(), KEYS)
    assert refused.value.detail in ("The token is not valid.", "The token has expired.")


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1 --", "ec\0", "EC", "", "ec ", "https://evil.test/"])
def test_a_kid_that_is_not_published_may_be_so_by_now(kid: str) -> None:
    with pytest.raises(UnknownKid):
        TOKENS.caller(with_kid(kid).encode(), KEYS)


@given(st.binary(max_size=200).map(lambda text: text.replace(b" ", b"")))
def test_no_bytes_make_it_fail_otherwise(text: bytes) -> None:
    with pytest.raises((Unbelievable, UnknownKid)):
        TOKENS.caller(text, KEYS)


@given(st.data())
def test_no_token_survives_a_changed_letter(data: st.DataObject) -> None:
    token = PROVIDER.token()
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_.="))
    changed = token[:place] + letter + token[place + 1 :]
    if changed == token:
        return
    with pytest.raises((Unbelievable, UnknownKid)):
        TOKENS.caller(changed.encode(), KEYS)


def test_keys_that_are_weak_symmetric_or_for_something_else_verify_nothing() -> None:
    (key,) = PROVIDER.published("rsa")["keys"]
    for changes in (
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"alg": "RS512"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"n": encoded(b"\xff" * 64)},
        {"n": "!"},
        {"kid": 1},
    ):
        try:
            keys = KeySet.of(json.dumps({"keys": [key | changes]}).encode())
        except WrongKeySet:
            continue
        with pytest.raises((Unbelievable, UnknownKid)):
            TOKENS.caller(PROVIDER.token("rsa", "RS256").encode(), keys)


def test_a_private_part_that_was_published_is_not_taken_over() -> None:
    (key,) = PROVIDER.published("ec")["keys"]
    keys = KeySet.of(json.dumps({"keys": [key | {"d": "AAAA"}]}).encode())
    assert TOKENS.caller(PROVIDER.token().encode(), keys).name == "someone"


def test_two_keys_of_one_id_for_one_algorithm_verify_nothing_and_others_go_on() -> None:
    """Which of the two is meant nobody can say; that of another algorithm is not in doubt."""
    keys = [*PROVIDER.published()["keys"], STRANGER.published("ec")["keys"][0]]
    for order in (keys, keys[::-1]):
        published = KeySet.of(json.dumps({"keys": order}).encode())
        for token in (PROVIDER.token(), STRANGER.token(), PROVIDER.token(header={"kid": None})):
            with pytest.raises(Unbelievable):
                TOKENS.caller(token.encode(), published)
        assert TOKENS.caller(PROVIDER.token("rsa", "RS256").encode(), published).name == "someone"


def test_one_id_for_keys_of_two_algorithms_is_no_doubt() -> None:
    keys = [key | {"kid": "same"} for key in PROVIDER.published("rsa", "ec")["keys"]]
    published = KeySet.of(json.dumps({"keys": keys}).encode())
    for key, algorithm in (("rsa", "RS256"), ("ec", "ES256")):
        token = PROVIDER.token(key, algorithm, header={"kid": "same"})
        assert TOKENS.caller(token.encode(), published).name == "someone"


def test_a_key_that_is_published_twice_is_one_key() -> None:
    (key,) = PROVIDER.published("ec")["keys"]
    published = KeySet.of(json.dumps({"keys": [key, key]}).encode())
    assert TOKENS.caller(PROVIDER.token().encode(), published).name == "someone"


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [1, null]}', b"[" * 100_000]
)
def test_what_is_no_set_of_keys_is_refused(text: bytes) -> None:
    with pytest.raises(WrongKeySet):
        KeySet.of(text)
