"""Which documents were changed, and when: by this the states that an answer without a version may show are listed.

It says nothing where it is not certain to know everything: before it was told of, behind what it was told up to, and
around a drop or a rename.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final

from neverstale.versions import Version

MOST: Final = 20_000
"""Changes of a collection that are remembered."""
LOOK_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 0.5
"""The feed has told by then, or it does not tell at the moment."""


class Changes:
    """Of one collection."""

    def __init__(self, most: int = MOST) -> None:
        self._told: deque[tuple[Version, str]] = deque(maxlen=most)
        self._since: Version | None = None
        self._until: Version = 0

    def forget(self) -> None:
        """What is known says nothing any more: there was a break, or the collection is another one."""
        self._told.clear()
        self._since, self._until = None, 0

    def saw(self, version: Version, key: str) -> None:
        """Changes come in the order of their versions. `key`: canonical."""
        if len(self._told) == self._told.maxlen:
            self._since = max(self._since or 0, self._told[0][0])
        self._told.append((version, key))

    def reached(self, version: Version) -> None:
        """Everything up to this version has been told, since this was called first."""
        if self._since is None:
            self._since = version
        self._until = max(self._until, version)

    async def between(
        self, keys: Collection[str], after: Version, until: Version
    ) -> list[tuple[Version, str]] | None:
        """The changes of some keys behind one version and up to another one, in order; `None`: they are not known."""
        loop = asyncio.get_running_loop()
        patience = loop.time() + PATIENCE_SECONDS
        while self._until < until:
            if self._since is None or loop.time() > patience:
                return None
            await asyncio.sleep(LOOK_SECONDS)
        if self._since is None or self._since > after:
            return None
        found = []
        for version, key in reversed(self._told):
            if version <= after:
                break
            if version <= until and key in keys:
                found.append((version, key))
        found.reverse()
        return found
