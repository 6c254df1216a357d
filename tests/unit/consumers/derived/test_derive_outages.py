"""What is derived waits for MongoDB, and nothing behind it is committed meanwhile."""

from typing import Any

import pytest

from neverstale.consumers.derived.derive import Deriver, NotYet, ResourceDeriver
from neverstale.derived.generations import Generations, UnknownFormat
from neverstale.errors import Outage, Refused
from tests.unit.consumers.derived.test_derive_announces import RESOURCE, FakeLoader, FakeStore, holding, moved


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
    store = holding("a", "g1")
    deriver = Deriver([ResourceDeriver(RESOURCE, store, AwayLoader(1))])  # type: ignore[arg-type]
    with pytest.raises(Outage):
        await deriver.apply(moved("c"), "redis")
    assert store.steps == []
    await deriver.apply(moved("c"), "redis")
    assert store.steps == ["contribute", "announce"]


class OfAnotherRelease(FakeStore):
    """A register that somebody else has written, until it is given up."""

    async def generations(self) -> Generations:
        if "forget" not in self.steps:
            raise UnknownFormat("9")
        return await super().generations()


async def test_what_cannot_be_read_is_given_up_and_the_batch_is_derived_again_behind_that() -> None:
    store = OfAnotherRelease()
    deriver = Deriver([ResourceDeriver(RESOURCE, store, FakeLoader("c"))])  # type: ignore[arg-type]
    with pytest.raises(NotYet):
        await deriver.apply(moved("c"), "redis")
    await deriver.apply(moved("c"), "redis")
    assert store.steps[0] == "forget"


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
    await Deriver(resources).apply(moved("c"), "redis")
    assert refused.steps == ["forget", "announce"]
    assert served.steps == ["contribute", "announce"]
