"""What the scripts of derived data need besides: more of hashes, and sorted sets, on the in-memory Redis.

The contract suite (`tests/contract/test_derived_scripts.py`) proves that this and a real Redis answer alike.
"""

from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from tests.support.lua_redis import Hash, LuaRedis

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Sorted(tuple[tuple[bytes, float], ...]):
    """A sorted set: pairs of member and score, by member."""

    __slots__ = ()


class CollectionsRedis(LuaRedis):
    """The in-memory Redis with the commands that `begin`, `contribute` and `agree` use."""

    def _call(self, name: bytes, *arguments: bytes | int | float) -> Any:
        command = _COMMANDS.get(name.upper())
        if command is None:
            return super()._call(name, *arguments)
        return command(self, *(a if isinstance(a, bytes) else b"%d" % int(a) for a in arguments))

    def scores(self, key: bytes) -> dict[bytes, float]:
        return dict(self._sorted(key))

    def _hash(self, key: bytes) -> Hash:
        stored = self._live(key)
        if stored is not None and isinstance(stored[0], Sorted):
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return super()._hash(key)

    def _sorted(self, key: bytes) -> Sorted:
        stored = self._live(key)
        if stored is None:
            return Sorted()
        if not isinstance(stored[0], Sorted):
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return stored[0]

    def _put(self, key: bytes, value: Any) -> None:
        """An empty collection does not exist."""
        stored = self._live(key)
        if value:
            self._data[key] = (value, stored[1] if stored else None)
        elif stored is not None:
            del self._data[key]

    def _hexists(self, key: bytes, field: bytes) -> int:
        return int(field in dict(self._hash(key)))

    def _hdel(self, key: bytes, *fields: bytes) -> int:
        held = dict(self._hash(key))
        gone = held.keys() & set(fields)
        self._put(key, tuple((field, value) for field, value in held.items() if field not in gone))
        return len(gone)

    def _hincrby(self, key: bytes, field: bytes, amount: bytes) -> int:
        held = dict(self._hash(key))
        total = _int64(held.get(field, b"0"), "hash value is not an integer") + _int64(amount)
        if not _LOWEST <= total <= _HIGHEST:
            raise ResponseError("increment or decrement would overflow")
        self._put(key, tuple(sorted((held | {field: b"%d" % total}).items())))
        # Redis hands Lua a double.
        return int(float(total))

    def _zadd(self, key: bytes, *pairs: bytes) -> int:
        held = dict(self._sorted(key))
        put = {member: float(score) for score, member in zip(pairs[::2], pairs[1::2], strict=True)}
        self._put(key, Sorted(sorted((held | put).items())))
        return len(put.keys() - held.keys())

    def _zrem(self, key: bytes, member: bytes) -> int:
        held = self._sorted(key)
        self._put(key, Sorted(pair for pair in held if pair[0] != member))
        return int(member in dict(held))

    def _zcard(self, key: bytes) -> int:
        return len(self._sorted(key))


def _int64(text: bytes, problem: str = "value is not an integer or out of range") -> int:
    try:
        number = int(text)
    except ValueError:
        raise ResponseError(problem) from None
    if not _LOWEST <= number <= _HIGHEST:
        raise ResponseError(problem)
    return number


_COMMANDS: dict[bytes, Callable[..., Any]] = {
    b"HDEL": CollectionsRedis._hdel,
    b"HEXISTS": CollectionsRedis._hexists,
    b"HINCRBY": CollectionsRedis._hincrby,
    b"ZADD": CollectionsRedis._zadd,
    b"ZCARD": CollectionsRedis._zcard,
    b"ZREM": CollectionsRedis._zrem,
}
