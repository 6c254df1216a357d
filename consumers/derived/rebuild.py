"""Rebuilding: see to it that every resource with something derived has a generation, and that it gets its walk.

A consumer begins a generation when there is none, or none that is declared as its catalog says (once in its life:
during a deployment, consumers of two catalogs must not take turns), or when something of the one that serves is gone
(`neverstale.consumers.derived.evicted`). Whoever finds one claimed gives it its birth, and
whoever finds one building asks for its walk; so it does not matter who dies in between.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from neverstale.catalog import Resource
from neverstale.consumers.derived.evicted import Inspection
from neverstale.derived.beginning import begin, further
from neverstale.derived.generations import Generations, UnknownFormat
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage, Refused
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walks
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.role.retry import forever

log = telemetry.logger(__name__)

LOOK_SECONDS: Final = 0.5
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 300.0
"""Between two generations that this consumer begins: one that is void at once would be void again."""

Identity = Callable[[], Awaitable[str]]


class Rebuilder:
    """Looks after the generations of one resource. `identity` returns which Redis this is."""

    def __init__(
        self,
        resource: Resource,
        store: DerivedStore,
        loader: Loader,
        walks: Walks,
        identity: Identity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resource = resource
        self._declared = resource.derived.text
        self._store = store
        self._loader = loader
        self._walks = walks
        self._identity = identity
        self._clock = clock
        self._inspection = Inspection(store, loader.now)
        self._refused = Seldom()
        self._insisted = False
        self._not_before = float("-inf")
        self._pause = FIRST_PAUSE_SECONDS

    async def keep(self) -> NoReturn:
        """Look after the resource until cancelled. While a server is away nothing is lost by waiting."""
        await forever(self._look_unless_away)

    async def _look_unless_away(self) -> float:
        try:
            await self.look()
        except Outage as outage:
            log.debug("rebuild_waits", resource=self.resource.name, reason=str(outage))
        except Refused as refusal:
            if times := self._refused.due():
                log.warning("rebuild_refused", resource=self.resource.name, reason=str(refusal), times=times)
        return LOOK_SECONDS

    async def look(self) -> None:
        """Do what is to be done next. Generations that nobody can read are none."""
        try:
            await self._look()
        except UnknownFormat as error:
            log.warning("generations_void", resource=self.resource.name, reason=str(error))
            await self._store.forget()

    async def _look(self) -> None:
        known = await self._store.generations()
        identity = await self._identity()
        if (complete := known.on(identity).readable().complete) is not None:
            lost = await self._inspection.lost(complete)
            if lost is not None:
                known = await self._void(complete.id, lost)
        if self._is_wanted(known.on(identity)) and self._clock() >= self._not_before:
            known = await self._begin(identity)
        await further(self.resource, self._store, self._loader, self._walks, known)

    async def _void(self, generation: str, lost: bytes) -> Generations:
        log.warning("generation_void", resource=self.resource.name, generation=generation, reason=f"{lost!r} is gone")
        return await self._store.change(lambda known: known.void(generation))

    def _is_wanted(self, known: Generations) -> bool:
        if not known.all:
            return True
        if any(one.declared == self._declared for one in known.all) or self._insisted:
            return False
        self._insisted = True
        return True

    async def _begin(self, identity: str) -> Generations:
        self._not_before = self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return await begin(self.resource, self._store, self._loader, identity)
