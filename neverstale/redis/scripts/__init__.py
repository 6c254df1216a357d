"""The shipped Lua scripts, one atomic step each, and how a server is made to know them."""

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final, Literal, get_args

Entries = Literal["lease", "fill", "invalidate", "touch", "raise", "claim", "establish"]
Consumed = Literal["stamp", "reach", "watermark", "begin", "contribute", "agree", "read"]
Counted = Literal["limit"]
Name = Literal[Entries, Consumed, Counted]
NAMES: Final[tuple[Name, ...]] = get_args(Name)

_EVEN_WHEN_FULL: Final = frozenset(NAMES) - {"lease", "fill"}
"""These must land when Redis is out of memory; a lease or a fill must then be refused."""


@dataclass(frozen=True, slots=True)
class Script:
    name: Name
    source: bytes
    sha: str


def source(name: Name) -> str:
    """The script as shipped."""
    return files(__name__).joinpath(f"{name}.lua").read_text("utf-8")


def scripts(*, flags: bool) -> dict[Name, Script]:
    """All scripts; with `flags` as Redis 7 and later want to be told what may run when memory is full.

    Redis 6.2 does not know the flags; there the error path deletes instead (see `neverstale.redis.corrections`).
    """
    return {name: _script(name, flags) for name in NAMES}


def _script(name: Name, flags: bool) -> Script:
    text = source(name)
    if flags and name in _EVEN_WHEN_FULL:
        text = "#!lua flags=allow-oom\n" + text
    code = text.encode()
    return Script(name, code, sha1(code, usedforsecurity=False).hexdigest())
