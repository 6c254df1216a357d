"""Users of Redis: commands, keys and channels.

The commands that scripts call are read out of the scripts, as they ship. Where keys lie in cells, announcements have
a channel for each; a Redis Cluster is also asked who holds what, and each of its nodes has users of its own.
"""

import re
from typing import Final, Literal

from neverstale.keys import Names
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.redis.scripts import Name, source
from neverstale.settings import RedisSettings

Layout = Literal["one", "cells", "cluster"]
"""One Redis that is one cell · one Redis with many (`redis.cells = "partition"`) · a Redis Cluster."""

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


_IN_CELLS: Final[dict[Role, tuple[str, ...]]] = {"api": ("hvals",)}
"""How many partitions there are."""
_IN_CLUSTER: Final = ("info", "cluster|slots", "asking")
"""Who answers, who holds what, and that a key may be on its way from one node to the other."""
_CLUSTER_LOOKS: Final = ("cluster|nodes", "cluster|info")
"""What `status` and `doctor` ask each node besides."""
_SHARDED: Final = {"publish": "spublish", "subscribe": "ssubscribe"}
_NOT_IN_CLUSTER: Final = frozenset(("select",))
"""There is one database."""


def layout_of(settings: RedisSettings) -> Layout:
    if settings.is_cluster:
        return "cluster"
    return "cells" if settings.layout == "partition" else "one"


def commands_of(role: Role, layout: Layout = "one") -> list[str]:
    """Every command that the role sends, or a script of its own calls, in alphabetical order."""
    if role == "operator":
        looks = {*_LOOKS, *(_CLUSTER_LOOKS if layout == "cluster" else ())}
        return sorted({*commands_of("consumer", layout), *commands_of("api", layout), *looks})
    called = {command for name in _SCRIPTS[role] for command in called_by(name)}
    sent = {*_CONNECTED, *_COMMANDS[role], *called, *(_IN_CELLS.get(role, ()) if layout != "one" else ())}
    if layout != "cluster":
        return sorted(sent)
    return sorted({*_IN_CLUSTER, *(_SHARDED.get(one, one) for one in sent - _NOT_IN_CLUSTER)})


def called_by(script: Name) -> list[str]:
    return sorted({command.lower() for command in _CALL.findall(source(script))})


def keys_of(role: Role, prefix: str) -> list[str]:
    """Patterns of keys, the same in every layout. The API changes entries, pages, counts of reads and budgets of
    callers; what is derived, and what says what may be believed (registers, watermarks), it only reads."""
    names = Names(prefix)
    card = names.role(role, "*").decode()
    if role == "watcher":
        return [f"~{card}"]
    if role == "api":
        pages, reads = f"{prefix}:{{*}}:*:l:*", f"{prefix}:{{*}}:reads*"
        ours = names.entry_prefix("*").decode() + "*", pages, reads, names.limit(b"*").decode(), card
        return [f"%R~{prefix}:*", *(f"~{pattern}" for pattern in ours)]
    return [f"~{prefix}:*"]


def channels_of(role: Role, prefix: str, layout: Layout = "one") -> list[str]:
    if role == "watcher":
        return []
    names = Names(prefix) if layout == "one" else Names(prefix).cell("*")
    return [f"&{names.announcements.decode()}"]


def user(role: Role, prefix: str, password: str, layout: Layout = "one") -> list[str]:
    """The words after `ACL SETUSER`. Said again, they change nothing."""
    commands = (f"+{command}" for command in commands_of(role, layout))
    rules = [*keys_of(role, prefix), *channels_of(role, prefix, layout), *commands]
    return [user_of(role), "reset", "on", f">{password}", *rules]


def script(prefix: str, layout: Layout = "one") -> str:
    """Lines for `redis-cli`, or for its file of users; of a cluster, for each of its nodes."""
    return "\n".join(" ".join(("ACL SETUSER", *user(role, prefix, "PASSWORD", layout))) for role in ROLES)


SENTINEL: Final = "ACL SETUSER neverstale reset on >PASSWORD +sentinel|get-master-addr-by-name"
"""One user is enough for all roles: a sentinel is only asked who the master is."""
