"""What is derived waits for MongoDB, and nothing behind it is committed meanwhile."""

from typing import Any

from consumers.derive import Deriver, ResourceDeriver
from neverstale.errors import Outage
from neverstale.service import Health
from tests.unit.test_derive_announces import RESOURCE, FakeLoader, holding, moved


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
