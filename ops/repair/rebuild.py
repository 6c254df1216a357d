"""`neverstale rebuild`: count a resource's documents again, in a generation beside the one that serves.

The command takes the first steps and looks on; watcher and consumers do the work (`neverstale.derived.generations`).
So it may be stopped, killed and called again at any time: it joins the generation that is being built.
"""

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from typing import Final, Literal

from neverstale.catalog import Catalog, Resource
from neverstale.derived.beginning import begin, further
from neverstale.derived.generations import Generation
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage, Stop
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walk, Walks
from neverstale.ops.redis.stores import derived_stores
from neverstale.ops.repair.named import declarations_named, resource_named
from neverstale.ops.terminal.interrupts import interrupts
from neverstale.ops.terminal.output import print_json
from neverstale.ops.terminal.progress import Shown
from neverstale.settings import Settings

LOOK_SECONDS: Final = 0.25
MOST_GIVEN_UP: Final = 3

End = Literal["complete", "left", "asked"]
_STATES: Final = {"wanted": "waits for the watcher", "walking": "walks", "walked": "waits for consumers"}


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What came of it."""

    resource: str
    declarations: tuple[str, ...]
    """All that are rebuilt: a generation is of a whole resource."""
    generation: str
    joined: bool
    """It was being built before."""
    end: End
    passed: int
    """Documents that the walk has touched."""

    @property
    def ok(self) -> bool:
        return self.end != "left"


async def rebuild(
    settings: Settings,
    catalog: Catalog,
    name: str,
    declaration: str | None,
    *,
    wait: bool = True,
    quiet: bool = False,
) -> Rebuild:
    """Ctrl-C leaves the generation to watcher and consumers, who go on with it."""
    resource = resource_named(catalog, name, settings.catalog)
    declarations_named(resource, declaration, settings.catalog)
    async with derived_stores(settings, catalog, resource) as opened:
        walks = Walks(opened.mongo, catalog.database, opened.settings.kafka)
        building = _Building(resource, opened.store, opened.loader, walks)
        return await building.build(await opened.store.identity(), wait=wait, quiet=quiet)


class _Building:
    """Builds what is derived of one resource again, on one Redis."""

    def __init__(self, resource: Resource, store: DerivedStore, loader: Loader, walks: Walks) -> None:
        self._resource = resource
        self._store = store
        self._loader = loader
        self._walks = walks
        self._passed = 0

    async def build(self, identity: str, *, wait: bool, quiet: bool) -> Rebuild:
        before = (await self._store.generations()).on(identity)
        begun = await self._begin(identity)
        joined = before.of(begun.id) is not None
        end: End = "asked"
        if wait:
            with interrupts() as interrupted, Shown(f"rebuild of {self._resource.name}", quiet=quiet) as shown:
                begun, end = await self._look_on(begun, identity, interrupted, shown)
        declarations = tuple(self._resource.derived.digests())
        return Rebuild(self._resource.name, declarations, begun.id, joined, end, self._passed)

    async def _begin(self, identity: str) -> Generation:
        begun = (await begin(self._resource, self._store, self._loader, identity)).next
        assert begun is not None
        return begun

    async def _look_on(
        self, begun: Generation, identity: str, interrupted: asyncio.Event, shown: Shown
    ) -> tuple[Generation, End]:
        given_up = 0
        while not interrupted.is_set():
            with contextlib.suppress(Outage):  # It goes on as soon as the server is back.
                known = await self._store.generations()
                one = known.of(begun.id) or known.next
                if one is None:
                    if (given_up := given_up + 1) > MOST_GIVEN_UP:
                        raise Stop(f"{given_up} generations were void before they were built; see the consumers' log")
                    begun = await self._begin(identity)
                    continue
                begun = one
                if begun.phase == "complete":
                    return begun, "complete"
                await further(self._resource, self._store, self._loader, self._walks, known)
                self._show(begun, await self._walks.of("rebuild", self._resource.name), shown)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(interrupted.wait(), LOOK_SECONDS)
        return begun, "left"

    def _show(self, building: Generation, walk: Walk | None, shown: Shown) -> None:
        if walk is None or walk.id != building.id:
            return
        self._passed = walk.passed
        state = _STATES.get(walk.state, walk.state)
        if walk.state == "walked":
            state += f", {len(building.rebuilt)} of {building.partitions or 'all'} partitions are done"
        shown.show(state, walk.passed, walk.about)


def print_rebuild(done: Rebuild, *, as_json: bool) -> None:
    """As JSON: `{ok, resource, declarations, generation, joined, end, passed}`."""
    if as_json:
        print_json({"ok": done.ok, **asdict(done)})
        return
    what = f"rebuild of {done.resource} ({', '.join(done.declarations)})"
    print(f"{what}: {_SENTENCES[done.end].format(done=done)}")


_SENTENCES: Final[dict[End, str]] = {
    "complete": "generation {done.generation} serves",
    "left": "generation {done.generation} goes on by itself; call again to look on",
    "asked": "generation {done.generation} is being built",
}
