"""Favourites: the most read documents, which are refreshed when they change although nobody has read them again yet.

`on_change = "auto"` gives an entry a second chance: it is refreshed if it was read since its last fill. A document
that is read all the time and changes twice between two reads would lose that chance for no good reason.
"""

from typing import Final, NoReturn

from neverstale.catalog import Catalog
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.most_read import Popularity
from neverstale.role import telemetry
from neverstale.role.retry import forever

log = telemetry.logger(__name__)

MOST: Final = 1_000
"""So many of one resource."""
LEAST_READS: Final = 2.0
"""What was read less is nobody's favourite."""
LOOK_SECONDS: Final = 10.0


class Favourites:
    """Knows the most read entries, as they were when it last looked."""

    def __init__(self) -> None:
        self.keys: frozenset[bytes] = frozenset()
        """Entries."""

    async def keep(self, catalog: Catalog, names: Names, popularity: Popularity) -> NoReturn:
        """Look again and again, until cancelled."""

        async def look() -> float:
            try:
                await self.look(catalog, names, popularity)
            except Outage as outage:
                log.debug("favourites_unknown", reason=str(outage))
            return LOOK_SECONDS

        await forever(look)

    async def look(self, catalog: Catalog, names: Names, popularity: Popularity) -> None:
        found: set[bytes] = set()
        for resource in catalog.resources.values():
            if resource.on_change == "auto":
                most = await popularity.most(resource.name, MOST)
                found |= {names.entry(resource.name, one.key) for one in most if one.reads >= LEAST_READS}
        self.keys = frozenset(found)
