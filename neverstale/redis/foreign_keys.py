"""Foreign keys: keys of ours under which lies a value of another type, which only somebody else can have put there.

No command of ours works on such a key, so it would stop a consumer, and a neighbour's key with it, for good. It is
deleted. That is always safe: whatever is missing is a miss, or unknown.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from neverstale.keys import Names
from neverstale.role.damage import Damage

WRONG_TYPE: Final = "WRONGTYPE"
_WITH_NUMBER_OF_KEYS: Final = "EVALSHA"
_MANY_KEYS: Final = frozenset(("MGET", "DEL", "EXISTS", "UNLINK"))


async def removed(
    commands: Sequence[tuple[Any, ...]],
    names: Names,
    damage: Damage,
    exchange: Callable[[Sequence[tuple[Any, ...]]], Awaitable[list[Any]]],
) -> int:
    """Delete what is foreign among the keys of these commands; returns how many there were."""
    keys = list(dict.fromkeys(key for command in commands for key in _keys(command) if names.type_of(key)))
    if not keys:
        return 0
    types = await exchange([("TYPE", key) for key in keys])
    found = [(key, _text(kind)) for key, kind in zip(keys, types, strict=True)]
    foreign = [(key, kind) for key, kind in found if kind not in ("none", names.type_of(key))]
    for key, kind in foreign:
        damage.met("key", f"{key!r} is a {kind}")
    if foreign:
        await exchange([("DEL", *(key for key, _ in foreign))])
    return len(foreign)


def _keys(command: tuple[Any, ...]) -> Iterator[bytes]:
    name = _text(command[0])
    if name == _WITH_NUMBER_OF_KEYS:
        yield from command[3 : 3 + command[2]]
    elif name in _MANY_KEYS:
        yield from command[1:]
    elif len(command) > 1 and isinstance(command[1], bytes):
        yield command[1]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
