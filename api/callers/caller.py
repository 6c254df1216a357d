"""A caller: who asks, what he may, and until when that is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from neverstale.api.callers.scopes import NO_RIGHTS, Rights


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """One that has shown who he is; or nobody, `ANYBODY`."""

    name: str
    """For logs of ours: the name of a key, or a token's subject."""
    rights: Rights
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What the credentials say of the caller, besides scopes."""
    until: float = math.inf
    """Seconds since 1970: not believed any more from then on."""
    bucket: bytes = b""
    """What limits count the requests by; empty: by address."""


ANYBODY: Final = Caller("", NO_RIGHTS)
"""Has shown no credentials."""


def digest(name: bytes) -> bytes:
    """Names a caller, and gives away neither key nor address."""
    return blake2b(name, digest_size=16).hexdigest().encode()
