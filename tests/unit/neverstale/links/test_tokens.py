"""Tokens for Kafka: where they come from, and what happens when there is none."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import OAuthAuthenticator
from aiokafka.errors import SaslAuthenticationFailed

from neverstale.errors import Misconfigured
from neverstale.links import tokens
from neverstale.links.tokens import PatientTokens, provider

HERE = __name__


class Made(AbstractTokenProvider):  # type: ignore[misc]
    def __init__(self, answer: Any = "a-token") -> None:
        self.answer = answer

    async def token(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is Made:
            await asyncio.Event().wait()
        return self.answer

    def extensions(self) -> dict[str, str]:
        return {"tenant": "shop"}


def no_provider() -> str:
    return "a-token"


async def test_the_token_is_what_the_file_holds_now(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    given = provider(None, path)
    assert await given.token() == "first"
    path.write_text("second\n")
    assert await given.token() == "second"


async def test_a_provider_of_yours_is_made_once_and_asked_for_each_connection() -> None:
    given = provider(f"{HERE}:Made", None)
    assert [await given.token() for _ in range(2)] == ["a-token"] * 2
    assert given.extensions() == {"tenant": "shop"}


@pytest.mark.parametrize("answer", ["", None, b"bytes", OSError("gone"), RuntimeError("mine"), Made])
async def test_without_a_token_kafka_refuses_us(answer: Any) -> None:
    with pytest.raises(SaslAuthenticationFailed, match="no token"):
        await PatientTokens(Made(answer), seconds=0.05).token()


async def test_who_is_told_that_his_token_is_not_taken_answers_and_who_is_not_is_in() -> None:
    tokens.mend()
    for told, answer in ((b'{"status":"invalid_token"}', (b"\x01", True)), (b"", None)):
        authenticator = OAuthAuthenticator(sasl_oauth_token_provider=PatientTokens(Made()))
        assert (await authenticator.step(None))[0].startswith(b"n,,")
        assert await authenticator.step(told) == answer


async def test_a_file_that_is_gone_is_no_token(tmp_path: Path) -> None:
    with pytest.raises(SaslAuthenticationFailed, match="FileNotFoundError"):
        await provider(None, tmp_path / "no").token()


@pytest.mark.parametrize("named", ["no_such_module:Make", f"{HERE}:NoSuch", f"{HERE}:no_provider", f"{HERE}:HERE"])
def test_a_provider_that_cannot_be_had_is_a_wrong_setting(named: str) -> None:
    with pytest.raises(Misconfigured, match=r"kafka\.oauth_token_provider"):
        provider(named, None)
