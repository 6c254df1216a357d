"""Users of Redis: commands, keys and channels.

The commands that scripts call are read out of the scripts, as they ship.
"""

import re
from typing import Final

from neverstale.keys import Names
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.redis.scripts import Name, source

_CALL: Final = re.compile(r"redis\.p?call\('([A-Z]+)'")

_CONNECTED: Final = ("client|setname", "select", "set")
"""What the client says by itself (`hello` and `auth` are everybody's), and the role's card."""
_SCRIPTED: Final = ("info", "evalsha", "script|load", "type", "del", "mget", "hmget")
"""`info`: which Redis this is. `type` and `del`: what somebody else has put under a key of ours is removed."""

_COMMANDS: Final[dict[Role, tuple[str, ...]]] = {
    "watcher": (),
    "consumer": (
        *_SCRIPTED,
        "ping",
        "get",
        "exists",
        "hget",
        "hset",
        "hdel",
        "hscan",
        "zcard",
        "pttl",
        "publish",
        "scan",
        "unlink",
        "zrevrange",
    ),
    "api": (
        *_SCRIPTED,
        *(
            "get",
            "getrange",
            "hgetall",
            "hlen",
            "zcard",
            "zrange",
            "zrank",
            "zscore",
            "zrevrange",
            "zrevrank",
        ),
        *("multi", "exec", "subscribe"),
    ),
}
"""Of its own; those of its scripts are added."""
_SCRIPTS: Final[dict[Role, tuple[Name, ...]]] = {
    "watcher": (),
    "consumer": (
        *("fill", "invalidate", "raise", "claim", "establish"),
        *("stamp", "reach", "watermark", "begin", "contribute", "agree"),
    ),
    "api": ("lease", "fill", "touch", "limit", "read"),
}

_LOOKS: Final = (
    "config|get",
    "client|list",
    "acl|getuser",
    "acl|whoami",
    "info",
    "dbsize",
    "ttl",
    "lpush",
    "ltrim",
    "lrange",
)
"""What `neverstale doctor` asks besides, and how an auditor keeps its evidence."""


def commands_of(role: Role) -> list[str]:
    """Every command that the role sends, or a script of its own calls, in alphabetical order."""
    if role == "operator":
        return sorted({*commands_of("consumer"), *commands_of("api"), *_LOOKS})
    called = {command for name in _SCRIPTS[role] for command in called_by(name)}
    return sorted({*_CONNECTED, *_COMMANDS[role], *called})


def called_by(script: Name) -> list[str]:
    return sorted({command.lower() for command in _CALL.findall(source(script))})


def keys_of(role: Role, prefix: str) -> list[str]:
    """Patterns of keys. The API changes entries, what is derived, and budgets of callers; registers and watermarks,
    which say what may be believed, it only reads."""
    names = Names(prefix)
    card = names.role(role, "*").decode()
    if role == "watcher":
        return [f"~{card}"]
    if role == "api":
        ours = (names.entry_prefix("*") + b"*", names.limit(b"*"), f"{prefix}:{{*".encode())
        return [f"%R~{prefix}:*", *(f"~{pattern.decode()}" for pattern in ours), f"~{card}"]
    return [f"~{prefix}:*"]


def channels_of(role: Role, prefix: str) -> list[str]:
    return [] if role == "watcher" else [f"&{Names(prefix).announcements.decode()}"]


def user(role: Role, prefix: str, password: str) -> list[str]:
    """The words after `ACL SETUSER`. Said again, they change nothing."""
    rules = [*keys_of(role, prefix), *channels_of(role, prefix), *(f"+{command}" for command in commands_of(role))]
    return [user_of(role), "reset", "on", f">{password}", *rules]


def script(prefix: str) -> str:
    """Lines for `redis-cli`, or for its file of users."""
    return "\n".join(" ".join(("ACL SETUSER", *user(role, prefix, "PASSWORD"))) for role in ROLES)
