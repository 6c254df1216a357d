"""Consumers announce every group of a list that they change, whatever goes wrong on the way."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from neverstale.catalog import Catalog
from neverstale.consumers.derived.derive import GROUPS_ANNOUNCED, Deriver, ResourceDeriver
from neverstale.consumers.records.batch import Batch
from neverstale.derived.contributions import pack
from neverstale.derived.generations import Generation, Generations
from neverstale.derived.plan import Plan, Said
from neverstale.derived.redis_names import DerivedNames, slot_of
from neverstale.derived.store import Begun
from neverstale.errors import Outage
from neverstale.redis.announcements import group_name

CATALOG = Catalog.model_validate(
    {"database": "shop", "resources": {"things": {"key_type": "string", "lists": {"shelves": {"by": ["shelf"]}}}}}
)
RESOURCE = CATALOG.resources["things"]
EVERY = "things|*|*"


def generation(name: str) -> Generation:
    return Generation(name, "complete", "redis", 16, RESOURCE.derived.text, birth=1)


class FakeStore:
    """A Redis that holds contributions, and can fail after it has taken some."""

    def __init__(self, *names: str) -> None:
        self.names = DerivedNames("ns", "things")
        self.known = Generations(tuple(map(generation, names)))
        self.held: dict[str, bytes] = {}
        self.failures = 0
        self.announced: list[list[str]] = []
        self.steps: list[str] = []

    async def generations(self) -> Generations:
        return self.known

    async def begin(self, known: Generations, partition: int, version: int, keys: Sequence[str]) -> list[Begun]:
        return [Begun(one, 0, [self.held.get(key, b"") for key in keys]) for one in known.all]

    async def contribute(self, known: Generations, partition: int, plans: Sequence[Plan]) -> None:
        self.steps.append("contribute")
        for plan in plans:
            plan.call("epoch", partition)
            for _, key, _, packed in plan._documents:
                self.held[key.decode()] = packed
        if self.failures:
            self.failures -= 1
            raise Outage("redis", "the reply is lost")

    async def forget(self) -> None:
        self.steps.append("forget")
        self.known = Generations()

    async def announce(self, groups: Collection[str], at: int) -> None:
        self.steps.append("announce")
        self.announced.append(list(groups))


class FakeLoader:
    """MongoDB holds one document, on a shelf."""

    def __init__(self, shelf: str) -> None:
        self.shelf = shelf

    async def read(self, collection: str, keys: Any, projection: Any, at_least: int) -> tuple[int, list[Any]]:
        return 100, [{"_id": "k", "shelf": self.shelf}]


def moved(*shelves: str) -> Batch:
    """The document was put on these shelves, one after the other."""
    seen = [Said("update", 50 + i, ("shelf",), {"shelf": f"s:{shelf}"}) for i, shelf in enumerate(shelves)]
    return Batch(told={("things", 0): {"s:k": seen}})


def group(shelf: str) -> str:
    return group_name("things", "shelves", slot_of(f"s:{shelf}"))


async def apply(store: FakeStore, *batches: Batch) -> None:
    resource = ResourceDeriver(RESOURCE, store, FakeLoader("c"))  # type: ignore[arg-type]
    deriver = Deriver([resource])
    for batch in batches:
        await deriver.apply(batch, "redis")


def holding(shelf: str, *names: str) -> FakeStore:
    store = FakeStore(*names)
    store.held["s:k"] = pack(10, (f"s:{shelf}",))
    return store


async def test_the_group_that_a_document_left_and_all_that_it_passed_are_announced() -> None:
    store = holding("a", "g1")
    await apply(store, Batch(told={("things", 0): {}}), moved("b", "c"))
    assert set(store.announced[-1]) >= {group("a"), group("b"), group("c")}
    assert EVERY not in store.announced[-1]


async def test_announcements_follow_the_contributions() -> None:
    store = holding("a", "g1")
    await apply(store, moved("c"))
    assert store.steps == ["contribute", "announce"]


async def test_a_group_is_announced_although_the_next_attempt_does_not_know_it() -> None:
    store = holding("a", "g1")
    resource = ResourceDeriver(RESOURCE, store, FakeLoader("c"))  # type: ignore[arg-type]
    resource._known = store.known  # nothing else is to be announced
    store.failures = 1
    deriver = Deriver([resource])
    with pytest.raises(Outage):
        await deriver.apply(moved("c"), "redis")
    await deriver.apply(moved("c"), "redis")
    assert store.steps == ["contribute", "contribute", "announce"]
    assert group("a") in store.announced[0]
    assert EVERY not in store.announced[0]


async def test_other_generations_announce_everything() -> None:
    store = holding("a", "g1")
    resource = ResourceDeriver(RESOURCE, store, FakeLoader("c"))  # type: ignore[arg-type]
    deriver = Deriver([resource])
    await deriver.apply(moved("c"), "redis")
    store.known = Generations()
    await deriver.apply(moved("c"), "redis")
    assert store.announced[-1] == [EVERY]


async def test_too_many_groups_are_announced_as_all() -> None:
    store = holding("a", "g1")
    resource = ResourceDeriver(RESOURCE, store, FakeLoader("c"))  # type: ignore[arg-type]
    resource._known = store.known
    resource._changed = {"shelves": {b"%04x" % number for number in range(GROUPS_ANNOUNCED)}}
    await Deriver([resource]).apply(moved("c"), "redis")
    assert store.announced == [["things|shelves|*"]]
