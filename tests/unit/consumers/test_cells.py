import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from neverstale.catalog import Catalog
from neverstale.consumers import cells as module
from neverstale.consumers.apply import Applier
from neverstale.consumers.cells import Cell, Cells, CellsApplier, Impatient
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.records.batch import Batch, Folding
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.replay import Accounts, Gap
from neverstale.errors import Outage
from neverstale.kafka.events import Mark
from neverstale.keys import Names
from neverstale.redis.commands import Command, Commands
from neverstale.redis.corrections import Corrections
from neverstale.role.retry import Wanted
from neverstale.role.service import Health

NAMES = Names("ns")
CATALOG = Catalog.model_validate({"database": "db", "resources": {"flights": {"key_type": "string"}}})


class Redis:
    """Answers what it holds of partitions, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.held: dict[int, bytes] = {}

    async def exchange(self, commands: Any) -> list[Any]:
        self.told += commands
        return [[self.held.get(int(at)) for at in one[2:]] if one[0] == "HMGET" else 1 for one in commands]


class Corrected:
    """An applier that notes what it is given, waits as one does whose Redis is away, and finds what is lacking."""

    def __init__(self, waits: Impatient) -> None:
        self.batches: list[Batch] = []
        self.away = False
        self.lacks: Mapping[int, Gap] = {}
        self._waits = waits

    async def correct(self, batch: Batch, wanted: Wanted) -> Mapping[int, Gap]:
        while self.away:
            self._waits(Outage("redis", "TimeoutError"))
        self.batches.append(batch)
        return self.lacks


class Settled:
    async def settle(self, batch: Batch) -> None:
        return None

    async def put(self, poison: Any, wanted: Any) -> None:
        return None


class Bench:
    def __init__(self) -> None:
        self.redis = Redis()
        self.appliers: dict[str, Corrected] = {}
        commands = Commands(None, NAMES, round_trip=self.redis.exchange)
        self.cells = Cells(commands, "default", self._open)
        self.cells.open_derived([_derived()])
        settled = Settled()
        self.applier = CellsApplier(self.cells, cast("Doubts", settled), cast("DeadLetters", settled))

    def _open(self, tag: str, resource: str | None) -> Cell:
        waits = Impatient("apply_waits", Health())
        self.appliers[tag] = Corrected(waits)
        cache = Corrections(None, NAMES.cell(tag), round_trip=self.redis.exchange)
        applier = cast("Applier", self.appliers[tag])
        return Cell(cache, applier, cast("Accounts", None), [waits], resource, ("flights",))

    async def apply(self, batch: Batch) -> Any:
        return await self.applier.apply(batch, Wanted())


def _derived() -> Any:
    declared = {"key_type": "string", "counters": {"all": {}}}
    return Catalog.model_validate({"database": "db", "resources": {"flights": declared}}).resources["flights"]


def batch_of(*partitions: int, marked: int | None = 4) -> Batch:
    """One of a change and, as the case may be, a mark for each partition."""
    parts = {}
    for partition in partitions:
        part = Batch(keys=[NAMES.entry("flights", "s:a")], versions_and_refresh=["0" * 16, "n"], highest=7)
        part.begins, part.offsets = {partition: 5}, {partition: 7}
        part.told = {("flights", partition): {"s:a": []}}
        if marked is not None:
            part.marks = {partition: Mark(7, 1_700_000_000_000, marked, 1)}
        parts[partition] = part
    whole = Batch(parts=parts)
    for part in parts.values():
        whole.begins |= part.begins
        whole.offsets |= part.offsets
    return whole


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)


async def test_each_partition_goes_to_its_own_documents_and_all_to_what_is_derived() -> None:
    bench = Bench()
    assert (await bench.apply(batch_of(1, 3))).applied
    assert set(bench.appliers) == {"flights", "default.4.1", "default.4.3"}
    for partition in (1, 3):
        (own,) = bench.appliers[f"default.4.{partition}"].batches
        assert own.keys == [f"ns:{{default.4.{partition}}}:flights:d:s:a".encode()]
        assert own.offsets == {partition: 7} and not own.told
    (whole,) = bench.appliers["flights"].batches
    assert whole.offsets == {1: 7, 3: 7} and not whole.keys
    assert set(whole.told) == {("flights", 1), ("flights", 3)}


async def test_until_a_mark_has_told_how_many_partitions_there_are_no_document_is_found() -> None:
    bench = Bench()
    await bench.apply(batch_of(1, marked=None))
    assert set(bench.appliers) == {"flights"}
    bench.redis.held = {1: b"8:" + b"0" * 16}
    await bench.apply(batch_of(1, marked=None))
    assert set(bench.appliers) == {"flights", "default.8.1"}


async def test_another_number_of_partitions_is_other_cells_and_readers_are_told_afterwards() -> None:
    bench = Bench()
    await bench.apply(batch_of(1))
    await bench.apply(batch_of(1, marked=8))
    assert [len(bench.appliers[f"default.{count}.1"].batches) for count in (4, 8)] == [1, 1]
    told = [command for command in bench.redis.told if command[0] == "HSET"]
    assert [command[2:] for command in told] == [(1, "4:0000000000000007"), (1, "8:0000000000000007")]


async def test_a_cell_that_is_away_is_left_behind_and_the_others_are_not() -> None:
    bench = Bench()
    await bench.apply(batch_of(0, 1))
    bench.appliers["default.4.0"].away = True
    for _ in range(3):
        assert (await bench.apply(batch_of(0, 1))).applied
    assert len(bench.appliers["default.4.0"].batches) == 1
    assert len(bench.appliers["default.4.1"].batches) == len(bench.appliers["flights"].batches) == 4


async def test_while_no_cell_can_be_reached_nothing_is_done_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    bench = Bench()
    await bench.apply(batch_of(0))
    for one in bench.appliers.values():
        one.away = True
    applying = asyncio.create_task(bench.apply(batch_of(0)))
    done, _ = await asyncio.wait((applying,), timeout=0.2)
    assert not done
    bench.appliers["flights"].away = False
    assert (await applying).applied
    assert len(bench.appliers["flights"].batches) == 2


async def test_what_any_cell_lacks_is_applied_again_from_the_first_record_that_any_lacks() -> None:
    bench = Bench()
    await bench.apply(batch_of(0))
    bench.appliers["default.4.0"].lacks = {0: Gap(4, 5)}
    bench.appliers["flights"].lacks = {0: Gap(2, 5)}
    assert (await bench.apply(batch_of(0))).gaps == {0: Gap(2, 5)}


def test_folding_apart_keeps_each_partitions_records_to_themselves() -> None:
    folding = Folding(CATALOG, NAMES, apart=True)
    lost = folding.lost({2: 40, 3: 50})
    assert lost.offsets == {2: 40, 3: 50} and not lost.begins
    assert {at: part.offsets for at, part in lost.parts.items()} == {2: {2: 40}, 3: {3: 50}}
    assert all(part.forget == {"flights"} for part in lost.parts.values()) and not lost.asks_nothing


async def test_a_batch_of_cells_that_are_away_holds_up_nobody_while_others_answer() -> None:
    bench = Bench()
    await bench.apply(batch_of(1, 3))
    for tag in ("flights", "default.4.1"):
        bench.appliers[tag].away = True
    async with asyncio.timeout(5):
        assert (await bench.apply(batch_of(1))).applied
        assert (await bench.apply(batch_of(1, 3))).applied
    assert [len(bench.appliers[tag].batches) for tag in ("flights", "default.4.1", "default.4.3")] == [1, 1, 2]
