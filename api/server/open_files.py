"""Files that a process may have open: every connection of a client is one, and every connection to a server.

Without a share that is kept for the servers, a crowd of clients that do nothing would keep us from MongoDB and Redis.
"""

import resource
from typing import Final

from neverstale.role import telemetry
from neverstale.settings import Settings

log = telemetry.logger(__name__)

TURNED_AWAY: Final = 64
"""Connections beyond the limit that are told so at the same time; more are closed without a word."""
OTHERS: Final = 128
"""Files, listeners, pipes, and connections that are opened for one purpose each."""
MEMBERS: Final = 4
"""Of a replica set; the client keeps a pool for each."""


def with_room(settings: Settings) -> Settings:
    """The settings, with no more connections of clients than this process may have files open for.

    The operating system's soft limit is raised as far as that is needed and allowed.
    """
    for_servers = MEMBERS * settings.mongodb.max_pool_size + 2 * settings.redis.max_connections + OTHERS
    room = _raise_to(settings.clients.connections + TURNED_AWAY + for_servers) - TURNED_AWAY - for_servers
    if room >= settings.clients.connections:
        return settings
    room = max(room, 1)
    log.warning(
        "connections_limited",
        reason=f"the operating system allows so few open files that only {room} clients can be connected",
        remedy="raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower clients.connections",
    )
    return settings.model_copy(update={"clients": settings.clients.model_copy(update={"connections": room})})


def _raise_to(wanted: int) -> int:
    """How many files may be open after that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # no system forbids this, but some have limits that they do not tell
        return soft
    return allowed
