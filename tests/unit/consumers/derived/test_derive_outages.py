"""What is derived waits for MongoDB, and nothing behind it is committed meanwhile."""

from typing import Any

from consumers.derived.derive import Deriver, ResourceDeriver
from neverstale.errors import Outage, Refused
from neverstale.role.service import Health
from tests.unit.consumers.derived.test_derive_announces import RESOURCE, FakeLoader, holding, moved


class AwayLoader(FakeLoader):
    """A MongoDB that is away for the first reads."""

    def __init__(self, failures: int) -> None:
        super().__init__("c")
        self.failures = failures

    async def read(self, collection: str, keys: Any, projection: Any, at_least: int) -> tuple[int, list[Any]]:
        if self.failures:
            self.failures -= 1
            raise Outage("mongodb", "away")
        return await super().read(collection, keys, projection, at_least)


async def test_while_mongodb_is_away_what_is_derived_waits_and_then_follows() -> None:
    store, loader, health = holding("a", "g1"), AwayLoader(2), Health()
    resource = ResourceDeriver(RESOURCE, store, loader)  # type: ignore[arg-type]
    assert await Deriver([resource], health).apply(moved("c"), "redis", lambda: True)
    assert loader.failures == 0
    assert store.steps == ["contribute", "announce"]
    assert "mongodb" in health.parts


async def test_a_batch_whose_partitions_go_to_another_consumer_is_not_said_to_be_derived() -> None:
    store, loader = holding("a", "g1"), AwayLoader(10)
    resource = ResourceDeriver(RESOURCE, store, loader)  # type: ignore[arg-type]
    assert not await Deriver([resource], Health()).apply(moved("c"), "redis", lambda: False)
    assert store.steps == []


class RefusingLoader(FakeLoader):
    """A collection that our user may not read."""

    async def read(self, collection: str, keys: Any, projection: Any, at_least: int) -> tuple[int, list[Any]]:
        raise Refused(13, "Unauthorized", "user", "grant it", heals=False)


async def test_a_collection_that_refuses_voids_what_is_derived_from_it_and_nothing_else() -> None:
    refused, served = holding("a", "g1"), holding("a", "g1")
    loaders = RefusingLoader("c"), FakeLoader("c")
    resources = [
        ResourceDeriver(RESOURCE, store, loader)  # type: ignore[arg-type]
        for store, loader in zip((refused, served), loaders, strict=True)
    ]
    assert await Deriver(resources, Health()).apply(moved("c"), "redis", lambda: True)
    assert refused.steps == ["forget"]
    assert served.steps == ["contribute", "announce"]
