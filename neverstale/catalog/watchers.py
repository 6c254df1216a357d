"""Watcher groups: which collections are watched through a change stream and a topic of their own.

```toml
[watchers.orders]
collections = ["orders", "order_items"]
```

All other collections are those of the group `default`. A collection is of one group, and so are all
resources that are served from it, with what is derived from them. References lead from group to group.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from neverstale.misconfiguration import did_you_mean, wrong

DEFAULT_GROUP: Final = "default"
RESERVED: Final = {
    DEFAULT_GROUP: "remove it: whatever no group names is in the default group",
    "dead": "choose another name: topics of dead letters end so",
}
LONGEST_NAME: Final = 32
MOST_GROUPS: Final = 16
"""Each has mongod search the whole oplog once more."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


class GroupDeclaration(BaseModel):
    """The collections of one watcher group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collections: Annotated[tuple[str, ...], Field(min_length=1)]


def check_groups(groups: Mapping[str, GroupDeclaration], collections: Collection[str]) -> None:
    """Raises for a name that fits into no topic's, and for a collection that is no resource's or in two groups."""
    if len(groups) > MOST_GROUPS:
        raise wrong(f"there are {len(groups)} groups", f"declare at most {MOST_GROUPS}", "watchers")
    taken: dict[str, str] = {}
    for name, group in groups.items():
        if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
            remedy = f"use 1 to {LONGEST_NAME} of the characters a-z, 0-9, _ and -, starting with a letter"
            raise wrong(f"{name!r} is not the name of a watcher group", remedy, f"watchers.{name}")
        if name in RESERVED:
            problem = f"the name {name} has a meaning already"
            raise wrong(problem, RESERVED[name], f"watchers.{name}")
        for collection in group.collections:
            if collection not in collections:
                problem = f"no resource is served from {collection!r}"
                raise wrong(problem, did_you_mean(collection, collections), f"watchers.{name}.collections")
            if collection in taken:
                problem = f"{collection} is in {taken[collection]}, too"
                remedy = "leave it in one group: all of a collection comes through one stream, in order"
                raise wrong(problem, remedy, f"watchers.{name}.collections")
            taken[collection] = name


def grouped(
    groups: Mapping[str, GroupDeclaration], collections: Collection[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each group that has collections, with these, the default group first."""
    named = {collection for group in groups.values() for collection in group.collections}
    rest = tuple(collection for collection in collections if collection not in named)
    if rest:
        yield DEFAULT_GROUP, rest
    for name, group in groups.items():
        yield name, tuple(sorted(group.collections))
