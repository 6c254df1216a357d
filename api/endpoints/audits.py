"""What an auditor has found in the last hour, for `/v1/freshness`."""

from collections.abc import Mapping
from typing import Any, Final

from neverstale.errors import Outage
from neverstale.redis import audit
from neverstale.redis.commands import Commands

NOTHING: Final[Mapping[str, dict[str, Any]]] = {}


async def audits_of(redis: Commands) -> Mapping[str, dict[str, Any]]:
    """Resource -> `{"audit": …}`: what was found, and when. Nothing where no auditor runs, or Redis is away."""
    try:
        record = await audit.stored(redis)
    except Outage:
        return NOTHING
    if record is None:
        return NOTHING
    times = {name: record.get(name) for name in ("at_ms", "since_ms")}
    return {name: {"audit": times | {"kinds": kinds}} for name, kinds in record["resources"].items()}
