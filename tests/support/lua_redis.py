"""An in-memory Redis that runs the shipped scripts: `redis.call` on a dict, in Redis's own Lua (5.1).

It knows the commands that the scripts use and nothing else. The contract suite (`tests/contract/test_scripts_*.py`)
proves that it and a real Redis answer alike and leave the same bytes; the exhaustive search
(`tests/properties/protocol_model.py`) then explores the shipped Lua text on it, not a model of that text.

The clock is virtual: it stands still until `advance` moves it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from lupa import lua51
from redis.exceptions import ResponseError

from neverstale.redis.scripts import Name, source

Hash: TypeAlias = tuple[tuple[bytes, bytes], ...]
Value: TypeAlias = bytes | Hash
"""A string, or a hash as sorted pairs. Immutable, so that a snapshot is a shallow copy."""

Stored: TypeAlias = tuple[Value, int | None]
"""A value and the time in milliseconds after which it is gone (`None`: never)."""

Snapshot: TypeAlias = tuple[tuple[bytes, Stored], ...]

Argument: TypeAlias = str | bytes | int | float
Reply: TypeAlias = Any
"""As redis-py gives it without `decode_responses`: bytes, int, None, or a list of these."""

_SANDBOX = """
setmetatable(_G, {
  __newindex = function(_, name) error('a script may not create the global variable ' .. tostring(name), 2) end,
  __index = function(_, name) error('there is no global variable ' .. tostring(name), 2) end,
})
"""
"""As in Redis, a forgotten `local` is an error."""


def patched(name: Name, old: str, new: str) -> str:
    """A shipped script with one rule changed; fails unless `old` is there exactly once."""
    text = source(name)
    if text.count(old) != 1:
        raise AssertionError(f"{name}.lua has {text.count(old)} times {old!r}, so the patch would prove nothing")
    return text.replace(old, new)


def _to_bytes(argument: Argument) -> bytes:
    """As Redis reads an argument of a command, or of `redis.call`."""
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, float):
        return b"%d" % int(argument) if argument.is_integer() else b"%.17g" % argument
    return str(argument).encode()


class LuaRedis:
    """One Redis with its scripts. `overrides` replaces shipped scripts by name (for negative controls)."""

    def __init__(self, overrides: Mapping[Name, str] | None = None, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self._overrides = dict(overrides or {})
        self._data: dict[bytes, Stored] = {}
        self._functions: dict[str, Any] = {}
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self._lua.globals()[b"redis"] = self._lua.table_from({b"call": self._call, b"pcall": self._pcall})
        self._lua.globals()[b"python"] = None
        self._lua.execute(_SANDBOX.encode())

    # Scripts

    def run(self, script: Name, keys: Sequence[bytes], args: Sequence[Argument] = ()) -> Reply:
        """Run a script by name, as EVALSHA does; `ResponseError` if the script fails."""
        function = self._functions.get(script)
        if function is None:
            text = self._overrides.get(script) or source(script)
            function = self._lua.execute(b"return function(KEYS, ARGV) " + text.encode() + b"\nend")
            self._functions[script] = function
        try:
            answer = function(
                self._lua.table_from(list(keys)), self._lua.table_from([_to_bytes(arg) for arg in args])
            )
        except lua51.LuaError as error:
            raise ResponseError(str(error)) from None
        return self._reply(answer)

    def _reply(self, answer: Any) -> Reply:
        """What Redis makes of a script's return value."""
        if isinstance(answer, bytes):
            return answer
        if answer is None or answer is False:
            return None
        if isinstance(answer, int | float):
            return int(answer)
        if answer[b"ok"] is not None:
            return answer[b"ok"]
        items: list[Reply] = []
        while (item := answer[len(items) + 1]) is not None:
            items.append(self._reply(item))
        return items

    # What tests do besides running scripts

    def advance(self, ms: int) -> None:
        self.now_ms += ms

    def command(self, *arguments: Argument) -> Reply:
        """Run one of the known commands outside a script."""
        return self._reply(self._call(*(_to_bytes(argument) for argument in arguments)))

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        return dict(self._hash(key))

    def snapshot(self) -> Snapshot:
        return tuple(sorted((key, stored) for key, stored in self._data.items() if self._live(key) is not None))

    def restore(self, snapshot: Snapshot) -> None:
        self._data = dict(snapshot)

    # Commands, as `redis.call` gives them to Lua

    def _call(self, name: bytes, *arguments: bytes | int | float) -> Any:
        command = _COMMANDS.get(name.upper())
        if command is None:
            raise ResponseError(f"the in-memory Redis does not know {name!r}")
        return command(self, *(_to_bytes(argument) for argument in arguments))

    def _pcall(self, name: bytes, *arguments: bytes | int | float) -> Any:
        try:
            return self._call(name, *arguments)
        except ResponseError as error:
            return self._lua.table_from({b"err": str(error).encode()})

    def _live(self, key: bytes) -> Stored | None:
        stored = self._data.get(key)
        if stored is not None and stored[1] is not None and self.now_ms > stored[1]:
            del self._data[key]
            return None
        return stored

    def _string(self, key: bytes) -> bytes | None:
        stored = self._live(key)
        if stored is None:
            return None
        if not isinstance(stored[0], bytes):
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return stored[0]

    def _hash(self, key: bytes) -> Hash:
        stored = self._live(key)
        if stored is None:
            return ()
        if isinstance(stored[0], bytes):
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return stored[0]

    def _get(self, key: bytes) -> bytes | bool:
        value = self._string(key)
        return False if value is None else value

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        words = [option.upper() for option in options]
        expires: int | None = None
        if b"PX" in words:
            lifetime = _integer(options[words.index(b"PX") + 1])
            if lifetime <= 0:
                raise ResponseError("invalid expire time in 'set' command")
            expires = self.now_ms + lifetime
        if b"NX" in words and self._live(key) is not None:
            return False
        self._data[key] = (value, expires)
        return self._lua.table_from({b"ok": b"OK"})

    def _getrange(self, key: bytes, start: bytes, end: bytes) -> bytes:
        value = self._string(key) or b""
        first, last = _integer(start), _integer(end)
        if first < 0 or last < 0:
            raise ResponseError("the in-memory Redis does not know negative offsets")
        return value[first : last + 1]

    def _setrange(self, key: bytes, offset: bytes, patch: bytes) -> int:
        value, at = self._string(key), _integer(offset)
        if not patch:
            return len(value or b"")
        padded = (value or b"").ljust(at, b"\0")
        stored = self._live(key)
        self._data[key] = (padded[:at] + patch + padded[at + len(patch) :], stored[1] if stored else None)
        return len(self._data[key][0])

    def _del(self, *keys: bytes) -> int:
        gone = [key for key in keys if self._live(key) is not None]
        for key in gone:
            del self._data[key]
        return len(gone)

    def _exists(self, *keys: bytes) -> int:
        return sum(self._live(key) is not None for key in keys)

    def _pttl(self, key: bytes) -> int:
        stored = self._live(key)
        if stored is None:
            return -2
        return -1 if stored[1] is None else stored[1] - self.now_ms

    def _pexpire(self, key: bytes, milliseconds: bytes) -> int:
        stored, lifetime = self._live(key), _integer(milliseconds)
        if stored is None:
            return 0
        if lifetime <= 0:
            del self._data[key]
        else:
            self._data[key] = (stored[0], self.now_ms + lifetime)
        return 1

    def _time(self) -> Any:
        seconds, ms = divmod(self.now_ms, 1000)
        return self._lua.table_from([b"%d" % seconds, b"%d" % (ms * 1000)])

    def _hget(self, key: bytes, field: bytes) -> bytes | bool:
        return dict(self._hash(key)).get(field, False)

    def _hset(self, key: bytes, *pairs: bytes) -> int:
        held = dict(self._hash(key))
        added = {pairs[i]: pairs[i + 1] for i in range(0, len(pairs), 2)}
        stored = self._live(key)
        self._data[key] = (tuple(sorted((held | added).items())), stored[1] if stored else None)
        return len(added.keys() - held.keys())


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ResponseError("value is not an integer or out of range") from None


_COMMANDS: dict[bytes, Callable[..., Any]] = {
    b"DEL": LuaRedis._del,
    b"EXISTS": LuaRedis._exists,
    b"GET": LuaRedis._get,
    b"GETRANGE": LuaRedis._getrange,
    b"HGET": LuaRedis._hget,
    b"HSET": LuaRedis._hset,
    b"PEXPIRE": LuaRedis._pexpire,
    b"PTTL": LuaRedis._pttl,
    b"SET": LuaRedis._set,
    b"SETRANGE": LuaRedis._setrange,
    b"TIME": LuaRedis._time,
}
