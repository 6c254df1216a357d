"""How far the oplog reaches back: a position that lies before its first entry cannot be resumed."""

from collections.abc import Callable
from typing import Any, Final, NoReturn

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.versions import Version, from_timestamp

LOOK_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 2.0
UNKNOWN: Final = float("nan")


async def end_of_oplog(client: AsyncMongoClient[dict[str, Any]], order: int) -> Version:
    """Its first entry (`order` 1) or its last (-1); 0: it is empty. Needs `find` on `local.oplog.rs`."""
    found = await client.local["oplog.rs"].find_one({}, {"ts": 1}, sort=[("$natural", order)])
    return from_timestamp(found["ts"]) if found else 0


async def keep_headroom(client: AsyncMongoClient[dict[str, Any]], position: Callable[[], Version | None]) -> NoReturn:
    """Tell in the metrics, for ever, how far behind the stored position the oplog reaches. NaN where that is not
    known: this watcher does not lead, or its user may not read the oplog."""

    async def look() -> float:
        telemetry.OPLOG_HEADROOM.set(await _headroom(client, position()))
        return LOOK_SECONDS

    await forever(look)


async def _headroom(client: AsyncMongoClient[dict[str, Any]], position: Version | None) -> float:
    if position is None:
        return UNKNOWN
    try:
        with pymongo.timeout(PATIENCE_SECONDS):
            first = await end_of_oplog(client, 1)
    except PyMongoError:
        return UNKNOWN
    return float((position >> 32) - (first >> 32))
