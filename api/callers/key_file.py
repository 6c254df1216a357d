"""Static keys and their file: hashes, never keys. `neverstale keys` writes it, and APIs read it when it changes.

    {"format": 1, "keys": [{"id": "k3f9…", "name": "board", "sha256": "…", "scopes": ["read:flights"], …}]}

A key is `nsk_{id}_{secret}`: the id finds the line, and the secret, 256 random bits, is compared with its hash in
constant time. Nobody can guess as much, so a slow hash would protect nothing and cost every request.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from neverstale.api.callers.scopes import wrong_with
from neverstale.errors import Misconfigured
from neverstale.misconfiguration import wrong

PREFIX: Final = "nsk_"
"""Tools that look for secrets in repositories and logs can find ours."""
REMEDY: Final = "write it with `neverstale keys add`"
MOST_BYTES: Final = 16 << 20

_KEY: Final = re.compile(rb"nsk_([0-9a-z]{8,32})_([0-9A-Za-z_-]{32,128})")


def _scope(text: str) -> str:
    if (problem := wrong_with(text)) is not None:
        raise wrong(problem, "correct it")
    return text


class StaticKey(BaseModel):
    """A line of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-z]{8,32}$")]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    """For people: whose it is."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the secret."""
    scopes: tuple[Annotated[str, AfterValidator(_scope)], ...]
    claims: dict[str, str | int] = Field(default_factory=dict)
    """What the key says of its caller, as a token would: its tenant."""
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def ended(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class KeyFile(BaseModel):
    """All of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    keys: tuple[StaticKey, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "KeyFile":
        """Raises `Misconfigured`, which repeats nothing of what is in the file."""
        try:
            with path.open("rb") as file:
                text = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise Misconfigured(f"callers.keys_file {path}", f"cannot be read ({error.strerror})", REMEDY) from None
        if len(text) > MOST_BYTES:
            raise Misconfigured(f"callers.keys_file {path}", f"has more than {MOST_BYTES} bytes", REMEDY)
        try:
            held = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise Misconfigured(f"callers.keys_file {path}", f"{where}: {first['msg']}", REMEDY) from None
        if len({key.id for key in held.keys}) < len(held.keys):
            raise Misconfigured(f"callers.keys_file {path}", "has an id twice", REMEDY)
        return held

    @property
    def text(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


class ShownKey(NamedTuple):
    """The parts of a key that a caller shows."""

    id: str
    secret: bytes


def parsed(credential: bytes) -> ShownKey | None:
    """`None`: this is no key of ours."""
    match = _KEY.fullmatch(credential)
    return None if match is None else ShownKey(match[1].decode(), match[2])


class StaticKeys:
    """The keys of a file, by id."""

    def __init__(self, keys: Iterable[StaticKey]) -> None:
        self._by_id: Mapping[str, StaticKey] = {key.id: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, shown: ShownKey) -> StaticKey | None:
        """The key that was shown, also if it has ended. It takes as long for a wrong id as for a wrong secret."""
        key = self._by_id.get(shown.id)
        expected = key.sha256 if key is not None else NOBODY
        same = hmac.compare_digest(hashed(shown.secret), expected)
        return key if same else None


def hashed(secret: bytes) -> str:
    return sha256(secret).hexdigest()


NOBODY: Final = "0" * 64


def now() -> datetime:
    return datetime.now(UTC)
