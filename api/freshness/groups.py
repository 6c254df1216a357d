"""The freshness of each watcher group: a resource's bound rests on the marks of its own group's topic alone."""

from collections.abc import Callable, Mapping
from typing import Final

from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.watermark import Freshness
from neverstale.catalog import Catalog
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.versions import Version

RESOURCE_ENDS: Final = "."
"""In the name of a source: `flights.lists.departures`."""


class GroupedFreshness:
    """The freshness of all groups of a catalog. Marks are of the whole cluster's time, so all groups share them."""

    def __init__(self, catalog: Catalog, groups: Mapping[str, Freshness], marks: Bounds) -> None:
        self.groups = groups
        self.marks = marks
        self.bound = marks.bound
        self._of = {one.name: groups[one.watcher_group] for one in catalog.resources.values()}

    def of(self, source: str) -> Freshness:
        """That of a source's resource."""
        return self._of[source.partition(RESOURCE_ENDS)[0]]

    @property
    def identity(self) -> str | None:
        """The Redis that is read; `None`: in doubt."""
        seen = {one.identity for one in self.groups.values()}
        return seen.pop() if len(seen) == 1 else None

    @property
    def watermark(self) -> Version | None:
        """No entry of any resource misses a change up to this version; `None`: unknown."""
        return min([one.watermark or 0 for one in self.groups.values()]) or None

    def opened(self, identity: str) -> None:
        """A new connection leads to this Redis. Called before anything is read through it."""
        for one in self.groups.values():
            one.opened(identity)

    def on_void(self, call: Callable[[], None]) -> None:
        """`call` when reads may lead to another Redis than before, before anything is read from it."""
        for one in self.groups.values():
            one.on_void(call)

    def covers(self, group: str, digest: str) -> bool:
        """Whether who applies a group's changes and says this coverage corrects all that is declared here of it."""
        return group in self.groups and self.groups[group].covers(digest)


def task_of(group: str) -> str:
    """The name of the task that keeps a group's watermark."""
    return "watermark" if group == DEFAULT_GROUP else f"watermark of {group}"
