"""What kind of collection a name stands for, and whether anything tells us when it changes.

The change stream tells of ordinary collections. Of a view, a time series or a system collection it tells nothing, and
of one that is capped not what is pushed out. What is read there may be answered, but never kept.

A name may stand for something else tomorrow, and only part of that is told: a drop is, the creation of a view under
the same name is not. So a read that may be kept names the collection's UUID (`collectionUUID`, MongoDB 6.0), which no
view has and no two collections share: it was answered by that very collection, or is refused (361). What follows is
told: nothing takes its place before it is dropped or renamed, and that is a floor.

MongoDB 5 has no such check, and without the privilege listCollections nobody tells us UUIDs. Then we look again after
each read, and keep only what was read from the same kind before and after.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn
from uuid import UUID

import pymongo
from bson.binary import Binary
from pymongo import ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from neverstale.bson.values import CODEC
from neverstale.catalog import Catalog, Resource
from neverstale.errors import NeverstaleError
from neverstale.mongodb.refusals import ours
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.role.retry import forever
from neverstale.role.service import Health

log = telemetry.logger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks, where nobody asks for one."""
AGAIN_SECONDS: Final = 0.1
"""Where nothing is kept, each read may ask for a look; but not more often than this."""
UNAUTHORIZED: Final = 13
UNSURE_SECONDS: Final = 60.0

Type = Literal["collection", "capped", "view", "timeseries", "system", "missing"]

_WHY: Final[Mapping[Type, str]] = {
    "capped": "is capped: nothing tells of what is pushed out of it; copy it into an ordinary collection",
    "view": "is a view, which has no change stream; name the collection behind it",
    "timeseries": "is a time series, which has no change stream; keep what is to be cached in an ordinary collection",
    "system": "is a system collection, which has no change stream; name one of your own",
    "missing": "does not exist; create it, or correct the catalog",
}


@dataclass(frozen=True, slots=True)
class Kind:
    type: Type
    uuid: Binary | None = None
    """`None`: it has none, or our user may not see it."""

    @property
    def told(self) -> bool:
        """Whether changes of it are told, so that what is read may be kept."""
        return self.type == "collection"

    @property
    def bounded(self) -> bool:
        """Whether what is read has a bound. A collection that does not exist is told of once it does."""
        return self.type in ("collection", "missing")

    def why(self, collection: str) -> str | None:
        """Why nothing of it is kept; `None`: it is."""
        return None if self.told else f"{collection} {_WHY[self.type]}"


def least_told(kinds: Iterable[Kind]) -> Kind:
    """The one of several of which least may be said; of several reads that make one answer."""
    return min(kinds, key=lambda kind: (kind.bounded, kind.told))


class Kinds:
    """Knows the kinds of the collections of one database that anybody has asked for."""

    def __init__(
        self, database: AsyncDatabase[dict[str, Any]], timeout_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._timeout = timeout_ms / 1000
        self._clock = clock
        self._held: dict[str, Kind] = {}
        self._wanted: set[str] = set()
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._unsure = Seldom(UNSURE_SECONDS)
        self.by_uuid = True
        """Whether the server can check it."""

    def last(self, collection: str) -> Kind | None:
        """As of the last look; `None`: nobody has looked."""
        return self._held.get(collection)

    def bounds(self, collection: str) -> bool:
        """Whether what is read of it has a bound, as of the last look; not while nobody has looked."""
        kind = self._held.get(collection)
        return kind is not None and kind.bounded

    async def of(self, collection: str) -> Kind:
        """As of the last look, or a new one where it may have become an ordinary collection meanwhile.

        Raises `Outage` and `Refused`.
        """
        held = self._held.get(collection)
        if held is None or (not held.told and self._clock() - self._looked > AGAIN_SECONDS):
            return await self.look(collection)
        return held

    async def look(self, collection: str) -> Kind:
        """As of now; raises alike."""
        self._wanted.add(collection)
        if self._looking is not None:
            await asyncio.wait((self._looking,))  # it may have begun before whatever the caller has seen
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="look-at-kinds")
            self._looking.add_done_callback(_heard)
        looking = self._looking
        await asyncio.wait((looking,))
        looking.result()
        return self._held[collection]

    async def _look(self) -> None:
        names = sorted(self._wanted)
        try:
            found = await self._list(names)
        except Exception as error:
            raise ours(error, "kinds") from error
        self._held = {name: found.get(name) or Kind("missing") for name in names}
        self._looked = self._clock()

    async def _list(self, names: list[str]) -> dict[str, Kind]:
        command = {"listCollections": 1, "filter": {"name": {"$in": names}}, "cursor": {"batchSize": len(names) + 1}}
        try:
            reply = await self._command(command)
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
            if times := self._unsure.due():
                log.warning("collections_not_listed", reason=str(ours(error, "kinds")), times=times)
            reply = await self._command({**command, "nameOnly": True, "authorizedCollections": True})
        return {one["name"]: kind_of(one) for one in reply["cursor"]["firstBatch"]}

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        with pymongo.timeout(self._timeout):
            return await self._database.command(command, codec_options=CODEC, read_preference=ReadPreference.PRIMARY)

    async def keep(self, catalog: Catalog, health: Health | None = None) -> NoReturn:
        """Look every now and then, until cancelled, and say which resources are not kept, and why."""
        resources = list(catalog.resources.values())
        self._wanted.update(resource.collection for resource in resources)
        said: dict[str, str | None] = {}

        async def look() -> float:
            try:
                await self.look(resources[0].collection)
            except NeverstaleError:
                pass  # whoever reads says what is wrong
            else:
                _say(resources, self._held, said, health)
            return LOOK_SECONDS

        await forever(look)


def _heard(looked: asyncio.Task[None]) -> None:
    """Whoever waited for it may have gone away."""
    if not looked.cancelled():
        looked.exception()


def kind_of(listed: Mapping[str, Any]) -> Kind:
    """The kind of an element of what `listCollections` returns."""
    uuid = (listed.get("info") or {}).get("uuid")
    if listed["name"].startswith("system."):
        return Kind("system")
    if listed["type"] != "collection":
        return Kind("view" if listed["type"] == "view" else "timeseries")
    if (listed.get("options") or {}).get("capped"):
        return Kind("capped")
    return Kind("collection", Binary(uuid.bytes, 4) if isinstance(uuid, UUID) else None)


def _say(
    resources: Iterable[Resource], held: Mapping[str, Kind], said: dict[str, str | None], health: Health | None
) -> None:
    for resource in resources:
        kind = held[resource.collection]
        why = kind.why(resource.collection)
        if why == said.get(resource.name):
            continue
        said[resource.name] = why
        telemetry.UNTOLD.labels(resource.name).set(0 if kind.bounded else 1)
        part = f"{resource.name}.collection"
        if health is not None:
            health.parts.pop(part, None)
            if not kind.bounded:
                health.wrong(part, f"nothing of it is cached: {why}")
        if why is None:
            log.info("kept_again", resource=resource.name)
        else:
            (log.info if kind.bounded else log.warning)("nothing_is_kept", resource=resource.name, reason=why)
