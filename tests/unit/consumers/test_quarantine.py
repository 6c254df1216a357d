"""Quarantine: the order in which a batch with unreadable records is dealt with."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from consumers.dead_letters import DeadLetters
from consumers.quarantine import Quarantine
from consumers.records.batch import Batch, Folding
from consumers.records.horizon import Horizon
from consumers.records.poison import Poison
from neverstale.kafka.events import record_key
from tests.unit.consumers.records.test_batch import CATALOG, NAMES, Partition, Record, change, records

PRESENT = 1 << 40


class World:
    """Notes what happens, in order."""

    def __init__(self, applies: bool = True, present: int | None = PRESENT) -> None:
        self.steps: list[Any] = []
        self.applies = applies
        self.present = present
        self.folding = Folding(CATALOG, NAMES)

    async def ask(self) -> int | None:
        self.steps.append("asked")
        return self.present

    async def applied(self, batch: Batch, wanted: Callable[[], bool]) -> bool:
        self.steps.append(("applied", list(batch.keys), sorted(batch.forget)))
        return self.applies

    async def put(self, poison: Sequence[Poison], wanted: Callable[[], bool]) -> bool:
        self.steps.append(("put", [each.record.offset for each in poison]))
        return True

    async def apply(self, *given: Record) -> bool:
        batch = self.folding.fold({Partition("t", 0): given})
        quarantine = Quarantine(self.folding, cast("Horizon", self), self.applied, cast("DeadLetters", self))
        return await quarantine.apply(batch, lambda: True)


BAD = Record(7, record_key("shop", "stock", "i:1"), b"{")


async def test_what_poison_may_concern_is_applied_before_it_is_put_away() -> None:
    world = World()
    assert await world.apply(BAD)
    assert world.steps == ["asked", ("applied", [b"ns:stock:d:i:1"], []), ("put", [7])]


async def test_with_mongodb_away_what_it_may_concern_is_void_and_nothing_waits() -> None:
    world = World(present=None)
    assert await world.apply(BAD)
    assert world.steps == ["asked", ("applied", [], ["stock"]), ("put", [7])]


async def test_of_a_batch_that_was_not_applied_nothing_is_put_away() -> None:
    world = World(applies=False)
    assert not await world.apply(BAD)
    assert world.steps[-1][0] == "applied"


async def test_a_sound_batch_is_applied_and_nothing_else() -> None:
    world = World()
    assert await world.apply(*records(change("i:1", 5, "stock")))
    assert world.steps == [("applied", [b"ns:stock:d:i:1"], [])]
