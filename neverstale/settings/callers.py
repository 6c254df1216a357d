"""Who may ask the API for what: static keys, tokens of an identity provider, demands, and pages of other origins."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from neverstale.misconfiguration import wrong
from neverstale.settings.section import SettingsSection

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those whose keys verify and cannot sign; so no key that a set publishes can make a token."""
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def listed(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _algorithms(text: str) -> str:
    for name in listed(text):
        if name not in ALGORITHMS:
            raise wrong(f"{name!r} is no algorithm that is accepted", f"use some of {', '.join(ALGORITHMS)}")
    if not listed(text):
        raise wrong("names no algorithm", "e.g. RS256,ES256,EdDSA")
    return text


def _origins(text: str) -> str:
    for origin in listed(text):
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            raise wrong(f"{origin!r} is no origin", "scheme, host in lower case and port only: https://shop.example")
    return text


def _key_set_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong("is no URL", "e.g. https://login.example/.well-known/jwks.json") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise wrong("does not start with https://", "whoever can change it on the way makes tokens")
    if not parts.hostname or "@" in parts.netloc:
        raise wrong("names no host, or a user", "e.g. https://login.example/.well-known/jwks.json")
    return url


class CallerSettings(SettingsSection):
    keys_file: Path | None = Field(
        None, description="Static keys, as `neverstale keys` writes them; read again when the file changes."
    )
    jwks_url: Annotated[str, AfterValidator(_key_set_url)] | None = Field(
        None, description="Where an identity provider publishes the keys of its tokens (https)."
    )
    jwks_file: Path | None = Field(None, description="The same as a file; read again when it changes.")
    issuer: str | None = Field(None, min_length=1, description="`iss` of accepted tokens.")
    audience: str | None = Field(None, min_length=1, description="`aud` of accepted tokens: what names this API.")
    algorithms: Annotated[str, AfterValidator(_algorithms)] = Field(
        "RS256,PS256,ES256,EdDSA", description="How tokens may be signed, comma-separated; never HS or none."
    )
    leeway_seconds: float = Field(
        10,
        ge=0,
        le=300,
        description="By so much clocks may differ from the identity provider's: `exp`, `nbf`, `iat`.",
    )
    scope_claim: str = Field("scope", min_length=1, description="The claim that holds a token's scopes.")
    reload_seconds: PositiveFloat = Field(1, description="Files of keys are looked at this often.")
    jwks_refresh_seconds: PositiveFloat = Field(
        300, description="Keys are fetched this often; an unknown one has them fetched at once, but once a minute."
    )
    jwks_timeout_ms: PositiveInt = Field(3000, description="Deadline of one fetch.")
    jwks_kept_seconds: PositiveFloat = Field(
        86_400, description="Keys that cannot be fetched again are believed for so long; then tokens are a 503."
    )
    demands: Literal["free", "scoped"] = Field(
        "free",
        description="Demands on freshness (`no-cache`, `max-age`, `stale-if-error`, `only-if-cached`, "
        "Neverstale-Min-Version): `scoped`: only for callers with a scope such as demand:no-cache.",
    )
    free_max_age_seconds: NonNegativeFloat = Field(
        60, description="With scoped demands, a `max-age` of at least so much needs no scope."
    )

    @property
    def configured(self) -> bool:
        """Whether anybody can say who he is."""
        return self.keys_file is not None or self.takes_tokens

    @property
    def takes_tokens(self) -> bool:
        return self.jwks_url is not None or self.jwks_file is not None

    @model_validator(mode="after")
    def _tokens_are_whole(self) -> Self:
        if self.jwks_url is not None and self.jwks_file is not None:
            raise wrong("is there beside callers.jwks_url", "name one of them", "jwks_file")
        for name in ("issuer", "audience"):
            if self.takes_tokens and getattr(self, name) is None:
                raise wrong("is missing: tokens for others would be accepted", "set it", name)
            if not self.takes_tokens and getattr(self, name) is not None:
                raise wrong("has no effect without keys", "set callers.jwks_url or callers.jwks_file", name)
        return self


class Cors(SettingsSection):
    origins: Annotated[str, AfterValidator(_origins)] = Field(
        "", description="Pages of these origins may read the API, comma-separated; `*`: all; empty: none."
    )
    credentials: bool = Field(False, description="Whether their browsers may send cookies and client certificates.")
    max_age_seconds: PositiveInt = Field(
        600, le=86_400, description="Browsers keep the answer to a preflight so long."
    )

    @model_validator(mode="after")
    def _credentials_are_for_named_origins(self) -> Self:
        named = listed(self.origins)
        if "*" in named and len(named) > 1:
            raise wrong("has * beside others", "name the origins, or only *", "origins")
        if self.credentials and "*" in named:
            raise wrong("does not go with origins = *", "name the origins", "credentials")
        return self
