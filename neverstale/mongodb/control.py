"""Our own two collections, beside the watched ones, and the documents in them.

| collection             | `_id`                                       | what it says               | written by  |
|------------------------|---------------------------------------------|----------------------------|-------------|
| `neverstale.control`   | `lease:<watcher group>`                     | who watches, in which term | watchers    |
| `neverstale.control`   | `checkpoint:<watcher group>`                | up to where Kafka has all  | the watcher |
| `neverstale.control`   | `walk:<topic>:<group>:<purpose>:<resource>` | a walk that is wanted      | any process |
| `neverstale.control`   | `dead:<topic of dead letters>`              | which letters are settled  | `ops`       |
| `neverstale.heartbeat` | `<watcher group>`                           | nothing: it changes        | the watcher |

The modules that write the documents describe their fields.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, TypeAlias

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from neverstale.bson.values import CODEC

CONTROL: Final = "neverstale.control"
"""Not in the stream."""
HEARTBEATS: Final = "neverstale.heartbeat"
"""In the stream, never published."""

Fields: TypeAlias = dict[str, Any]

DROP_PENDING: Final = 215
"""DatabaseDropPending: for a moment nothing can be made in a database that is being dropped."""
DROP_SECONDS: Final = 5.0
"""So long a drop is waited for."""
PAUSE_SECONDS: Final = 0.02

LEASES: Final[Fields] = {"_id": {"$gte": "lease:", "$lt": "lease;"}}
"""Matches the leases of all watcher groups."""


def control(database: AsyncDatabase[Fields]) -> AsyncCollection[Fields]:
    """The control collection, read at the primary and written by majority, whatever the client's URI says."""
    return _own(database, CONTROL)


def heartbeats(database: AsyncDatabase[Fields]) -> AsyncCollection[Fields]:
    """The heartbeat collection, in the same way."""
    return _own(database, HEARTBEATS)


async def unless_dropping(write: Callable[[], Awaitable[object]]) -> None:
    """Write as soon as the database is not being dropped. The change stream itself tells of the drop, and where to go
    on behind it; a watcher that gave it up for a refused write would lose that position."""
    deadline = monotonic() + DROP_SECONDS
    while True:
        try:
            await write()
            return
        except OperationFailure as error:
            if error.code != DROP_PENDING or monotonic() > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


def lease_id(watcher_group: str) -> str:
    return f"lease:{watcher_group}"


def checkpoint_id(watcher_group: str) -> str:
    return f"checkpoint:{watcher_group}"


def walk_id(topic: str, group: str, purpose: str, resource: str) -> str:
    return f"walk:{topic}:{group}:{purpose}:{resource}"


def settled_id(dead_topic: str) -> str:
    return f"dead:{dead_topic}"


def _own(database: AsyncDatabase[Fields], name: str) -> AsyncCollection[Fields]:
    return database.get_collection(
        name,
        codec_options=CODEC,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority"),
    )
