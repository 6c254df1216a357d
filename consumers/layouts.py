"""What of a consumer depends on how keys are laid out in Redis (`neverstale.redis.cells`): one cell, or many."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from neverstale.catalog import Catalog, Resource
from neverstale.consumers.apply import Applier, Apply, Section, Steps
from neverstale.consumers.cells import Cell, Cells, CellsApplier, Impatient
from neverstale.consumers.coverage import Coverages
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.derived.derive import Deriver, ResourceDeriver
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.refresh import Refresher
from neverstale.consumers.registers import Registers, RegistersOfCells
from neverstale.consumers.replay import Accounts, Believed
from neverstale.consumers.topic_identity import TopicIdentity
from neverstale.derived.redis_names import derived_tag
from neverstale.derived.store import DerivedStore
from neverstale.keys import Names
from neverstale.mongodb.loader import Loader
from neverstale.redis.announcements import Announcer
from neverstale.redis.commands import Commands
from neverstale.redis.corrections import Corrections
from neverstale.redis.nodes import Nodes
from neverstale.role.damage import Damage
from neverstale.role.service import Health
from neverstale.settings import Settings
from neverstale.watcher_groups import WatcherGroup

LANE = "corrections"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a consumer has, however keys are laid out."""

    of: WatcherGroup
    health: Health
    nodes: Nodes
    names: Names
    damage: Damage
    loader: Loader
    doubts: Doubts
    letters: DeadLetters

    @property
    def settings(self) -> Settings:
        return self.of.settings

    @property
    def catalog(self) -> Catalog:
        return self.of.catalog

    @property
    def group(self) -> str:
        return self.settings.kafka.group

    def corrections(self, names: Names) -> Corrections:
        """A cell, and a publisher of its own on the cell's channel."""
        way = self.nodes.to_cell(names.applied, LANE, corrects=True)
        cache = Corrections(None, names, Announcer(group=self.of.name), round_trip=way, damage=self.damage)
        cache.publish = self.nodes.publish
        return cache


@dataclass(frozen=True, slots=True)
class Written:
    """How Redis is written."""

    apply: Apply
    accounts: Believed[Any]
    refresher: Refresher
    stores: Mapping[str, DerivedStore]
    """By resource."""
    commands: Commands
    """For what lies in no cell."""
    keep_registers: Callable[[], Awaitable[NoReturn]]


def in_one_cell(ours: Surroundings) -> Written:
    """All is one cell, written by all partitions."""
    cache, catalog = ours.corrections(ours.names), ours.catalog
    stores = {name: DerivedStore(cache, one.derived_name, cache.announcer) for name, one in catalog.resources.items()}
    derived = [one for one in catalog.resources.values() if one.derived]
    registers = Registers(cache, catalog.collections, ours.loader.now, ours.health)
    refresher = Refresher(cache, ours.loader, ours.settings.consumer)
    steps = _steps(ours, cache, catalog.collections, registers, refresher, derived, stores)
    applier = Applier(cache, steps, _section(ours, catalog.collections), ours.health)
    return Written(applier.apply, steps.accounts, refresher, stores, cache, registers.keep_known)


def in_cells(ours: Surroundings) -> Written:
    """One cell for each partition's documents, and for what is derived of each resource."""
    catalog, registers = ours.catalog, RegistersOfCells()
    resources = {name: one for name, one in catalog.resources.items() if one.derived}
    caches = {name: ours.corrections(ours.names.cell(derived_tag(one))) for name, one in resources.items()}
    stores = {
        name: DerivedStore(cache, resources[name].derived_name, cache.announcer) for name, cache in caches.items()
    }

    def open_cell(tag: str, name: str | None) -> Cell:
        cache = caches[name] if name is not None else ours.corrections(ours.names.cell(tag))
        collections = catalog.collections if name is None else (resources[name].collection,)
        derived = [resources[name]] if name is not None else []
        own = Registers(cache, collections, ours.loader.now, ours.health)
        registers.meet(own)
        steps = _steps(ours, cache, collections, own, refresher, derived, stores)
        waits: list[Impatient] = []

        def waiting(event: str, health: Health) -> Impatient:
            waits.append(Impatient(event, health))
            return waits[-1]

        section = _section(ours, collections)
        applier = Applier(cache, steps, section, ours.health, waits=waiting, voids_alone=True)
        return Cell(cache, applier, steps.accounts, waits, name, collections)

    commands = Commands(None, ours.names, round_trip=ours.nodes.send, damage=ours.damage)
    cells = Cells(commands, ours.of.name, open_cell)
    refresher = Refresher(cells, ours.loader, ours.settings.consumer)
    cells.open_derived(resources.values())
    apply = CellsApplier(cells, ours.doubts, ours.letters).apply
    return Written(apply, cells, refresher, stores, commands, registers.keep_known)


def _section(ours: Surroundings, collections: Sequence[str]) -> Section:
    return Section(ours.group, tuple(collections), ours.settings.consumer.lease_ms)


def _steps(
    ours: Surroundings,
    cache: Corrections,
    collections: Sequence[str],
    registers: Registers,
    refresher: Refresher,
    derived: Sequence[Resource],
    stores: Mapping[str, DerivedStore],
) -> Steps:
    return Steps(
        ours.doubts,
        TopicIdentity(cache, ours.group, collections, ours.health),
        Coverages(cache, ours.group, ours.catalog),
        registers,
        Deriver([ResourceDeriver(one, stores[one.name], ours.loader) for one in derived]).apply,
        Accounts(cache, ours.group, collections, ours.health),
        refresher,
        ours.letters,
    )
