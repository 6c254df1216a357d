"""Tokens for Kafka's OAUTHBEARER: from a file that somebody renews, or from a function of yours."""

import asyncio
import importlib
from pathlib import Path
from typing import Any, Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import SaslAuthenticationFailed

from neverstale.errors import Misconfigured

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
