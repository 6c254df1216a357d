"""What is known beforehand about the collections that a catalog watches: whose changes need anything, and what."""

from collections.abc import Sequence
from dataclasses import dataclass

from neverstale.catalog import Resource
from neverstale.keys import type_prefix


@dataclass(frozen=True, slots=True)
class WatchedCollection:
    """What is known beforehand about one collection."""

    resources: tuple[Resource, ...]
    types: tuple[str, ...]
    """How canonical keys begin that some resource can have."""
    served: frozenset[str] | None
    """Fields that some resource serves; `None`: all."""
    derived: bool
    """Whether anything is derived from its documents."""


def watched_by(resources: tuple[Resource, ...]) -> WatchedCollection:
    served: set[str] | None = set()
    for resource in resources:
        served = None if served is None or resource.fields is None else served | set(resource.fields)
    types = dict.fromkeys(type_prefix(resource.key_type) for resource in resources)
    derived = any(resource.derived for resource in resources)
    return WatchedCollection(resources, tuple(types), None if served is None else frozenset(served), derived)


def touches(paths: Sequence[str] | None, served: frozenset[str] | None) -> bool:
    """Whether a change of these paths can be seen in what is served."""
    return paths is None or served is None or any(path.split(".", 1)[0] in served for path in paths)
