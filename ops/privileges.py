"""What each role may do in MongoDB, and needs to (docs/operations.md, "Privileges in MongoDB")."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from neverstale.mongodb.control import CONTROL, HEARTBEATS

Privileges: TypeAlias = Mapping[str, tuple[str, ...]]
"""Collection -> actions; the empty name: the whole database."""


def of_api(collections: Iterable[str]) -> Privileges:
    return {**dict.fromkeys([*collections, CONTROL], ("find",)), "": ("listCollections",)}


def of_consumer(collections: Iterable[str]) -> Privileges:
    return {**of_api(collections), CONTROL: ("find", "insert", "update")}


def of_watcher() -> Privileges:
    """The most that any role needs."""
    own = ("find", "insert", "update", "remove")
    return {"": ("find", "changeStream", "listCollections"), CONTROL: own, HEARTBEATS: own}
