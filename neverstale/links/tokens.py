"""Tokens for Kafka's OAUTHBEARER: from a file that somebody renews, or from a function of yours.

A broker that does not take a token first says why, and refuses us when we have answered that (RFC 7628, 3.2.3).
aiokafka 0.14 takes the former for a yes, sends its first request, and the broker hangs up: that looks like an outage.
So we answer. Source: `aiokafka/conn.py`, `OAuthAuthenticator`.
"""

import asyncio
import importlib
from pathlib import Path
from typing import Any, Final

from aiokafka import conn
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import SaslAuthenticationFailed

from neverstale.errors import Misconfigured

_STEP: Final[Any] = conn.OAuthAuthenticator.step
HEARD: Final = b"\x01"
"""The answer to whoever said why he does not take a token."""
TOKEN_SECONDS: Final = 10.0
"""A connection waits for its token no longer."""


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """The token is what the file holds when a connection is opened, as Kubernetes and Vault's agent renew it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        return (await asyncio.to_thread(self._path.read_text, "utf-8")).strip()


class PatientTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Another provider's tokens within a deadline. Whatever goes wrong is a refusal: nobody knows who we are."""

    def __init__(self, provider: AbstractTokenProvider, seconds: float = TOKEN_SECONDS) -> None:
        self._provider = provider
        self._seconds = seconds

    async def token(self) -> str:
        try:
            async with asyncio.timeout(self._seconds):
                token = await self._provider.token()
        except Exception as error:
            raise SaslAuthenticationFailed(f"no token: {type(error).__name__}") from error
        if not token or not isinstance(token, str):
            raise SaslAuthenticationFailed("no token: what was given is empty, or no text")
        return token

    def extensions(self) -> dict[str, str]:
        found: dict[str, str] = self._provider.extensions() or {}
        return found


async def _step(self: Any, payload: bytes | None) -> tuple[str | bytes, bool] | None:
    if self._token_sent and payload:
        return HEARD, True
    step: tuple[str | bytes, bool] | None = await _STEP(self, payload)
    return step


def mend() -> None:
    """May be called again."""
    conn.OAuthAuthenticator.step = _step


def provider(named: str | None, file: Path | None) -> AbstractTokenProvider:
    """What gives tokens: `named` is `module:attribute`, called without arguments for an `AbstractTokenProvider` of
    aiokafka. Raises `Misconfigured`."""
    if file is not None:
        return PatientTokens(TokenFile(file))
    assert named is not None
    return PatientTokens(_made(named))


def _made(named: str) -> AbstractTokenProvider:
    where, (module, _, attribute) = "kafka.oauth_token_provider", named.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        problem = f"{named} cannot be had ({type(error).__name__}: {error})"
        raise Misconfigured(where, problem, "name module:attribute, installed beside neverstale") from error
    if not isinstance(made, AbstractTokenProvider):
        remedy = "let it return one: class Tokens(aiokafka.abc.AbstractTokenProvider), async def token(self) -> str"
        raise Misconfigured(where, f"{named}() is no AbstractTokenProvider but a {type(made).__name__}", remedy)
    return made
