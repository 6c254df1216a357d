"""Our own collections: nobody may watch them, and every process names their documents alike."""

import pytest

from neverstale.catalog import OWN_PREFIX
from neverstale.mongodb.control import (
    CONTROL,
    HEARTBEATS,
    LEASES,
    checkpoint_id,
    lease_id,
    settled_id,
    walk_id,
)


@pytest.mark.parametrize("collection", [CONTROL, HEARTBEATS])
def test_no_resource_can_declare_a_collection_of_ours(collection: str) -> None:
    assert collection.startswith(OWN_PREFIX)


def test_ids_stay_as_they_are_since_processes_of_two_releases_share_them() -> None:
    assert lease_id("default") == "lease:default"
    assert checkpoint_id("default") == "checkpoint:default"
    assert walk_id("changes", "one", "resync", "flights") == "walk:changes:one:resync:flights"
    assert settled_id("changes.dead") == "dead:changes.dead"


@pytest.mark.parametrize("group", ["", "a", "\U0010ffff", "lease:"])
def test_leases_are_the_leases_of_all_groups_and_nothing_else(group: str) -> None:
    assert _matches(lease_id(group))
    others = checkpoint_id(group), walk_id(group, "g", "rebuild", "r"), settled_id(group)
    assert not any(map(_matches, others))


def _matches(name: str) -> bool:
    between = LEASES["_id"]
    return bool(between["$gte"] <= name < between["$lt"])
