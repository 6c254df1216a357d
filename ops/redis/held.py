"""What all of Redis says of how far it is: cards, registers and watermarks of every cell, the auditor's record."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neverstale.catalog import Catalog
from neverstale.derived.redis_names import derived_tag
from neverstale.errors import Outage
from neverstale.ops import servers
from neverstale.ops.redis.nodes import ClusterView, NodeStatus, ask_nodes, cluster_view
from neverstale.ops.redis.roles import RoleStatus, roles_told_by
from neverstale.ops.redis.stores import Stores, stores
from neverstale.redis.audit import stored
from neverstale.redis.cells import document_tag
from neverstale.redis.corrections import Corrections
from neverstale.redis.watermarks import Watermark, Watermarks
from neverstale.settings import Settings
from neverstale.versions import Version, to_hex
from neverstale.watcher_groups import WatcherGroup, watcher_groups


@dataclass(frozen=True, slots=True)
class Register:
    name: str
    """`applied`, or `floor` and a collection."""
    version: str | None
    """16 hex digits; `None`: unknown, so nothing is cached under it."""
    cell: str = ""
    """Its hash tag; empty: there is only one."""


@dataclass(frozen=True, slots=True)
class HeldCell:
    """One cell, as one watcher group writes it."""

    group: str
    tag: str = ""
    """Empty: there is only one cell; or, with a problem, nobody could say which ones there are."""
    resource: str | None = None
    """Whose derived data it holds; `None`: documents, or all."""
    partition: int | None = None
    """Whose documents it holds; `None`: all partitions write it."""
    node: str = ""
    """That holds it; empty: there is only one, or none does."""
    watermarks: Watermarks | None = None
    registers: tuple[Register, ...] = ()
    problem: str | None = None
    """Why it cannot be read; `None`: it answers."""

    @property
    def marks(self) -> Mapping[int, Watermark]:
        """Those that were applied on the very Redis that holds it now; others say nothing of this one."""
        held = self.watermarks
        marks = held.by_partition if held is not None else {}
        return {number: mark for number, mark in marks.items() if held and mark.identity == held.identity}


@dataclass(frozen=True, slots=True)
class HeldInRedis:
    facts: Mapping[str, Any]
    roles: Sequence[RoleStatus]
    all_roles: bool
    """`False`: a node that may hold cards does not answer."""
    cells: Sequence[HeldCell]
    partitions: Mapping[str, int]
    """Watcher group -> how many its marks have told."""
    nodes: Sequence[NodeStatus] = ()
    audit: dict[str, Any] | None = None

    @property
    def registers(self) -> list[Register]:
        """Of all cells; a cell that several watcher groups write has its registers once."""
        return list({(one.cell, one.name): one for cell in self.cells for one in cell.registers}.values())


async def held_in_redis(settings: Settings, catalog: Catalog) -> HeldInRedis:
    """Raises `Outage` if no server answers. A cell, or a node, that does not answer hides none of the others."""
    view = await cluster_view(settings.redis)
    nodes = await ask_nodes(settings.redis, view.nodes) if view is not None else []
    async with stores(settings, catalog) as opened:
        roles, all_roles = await roles_told_by(settings.redis, view)
        cells, partitions = await _cells(opened, settings, catalog, view)
        try:
            audited = await stored(opened.commands)
        except Outage:
            if view is None:
                raise
            audited = None
    facts = await _of_one(settings, cells) if view is None else _of_many(nodes)
    return HeldInRedis(facts, roles, all_roles, cells, partitions, nodes, audited)


async def _of_one(settings: Settings, cells: Sequence[HeldCell]) -> dict[str, Any]:
    async with servers.redis(settings.redis) as client:
        facts = await servers.redis_facts(client)
    identity = next((one.watermarks.identity for one in cells if one.watermarks is not None), "")
    return {"version": facts.version, "memory": _mib(facts.used_bytes), "identity": identity}


def _of_many(nodes: Sequence[NodeStatus]) -> dict[str, Any]:
    versions = sorted({one.version for one in nodes if one.version is not None})
    masters = sum(one.role == "master" for one in nodes)
    used = sum(one.used_bytes or 0 for one in nodes if one.role == "master")
    counted = f"{masters} masters, {len(nodes) - masters} replicas"
    return {"version": " ".join(versions), "memory": _mib(used), "nodes": counted}


def _mib(number: int) -> str:
    return f"{number / 2**20:.1f} MiB"


async def _cells(
    opened: Stores, settings: Settings, catalog: Catalog, view: ClusterView | None
) -> tuple[list[HeldCell], dict[str, int]]:
    """All cells, and how many partitions there are."""
    groups = watcher_groups(settings, catalog)
    if not opened.in_cells:
        held = [await _asked(opened.commands, one, HeldCell(one.name)) for one in groups]
        for cell in held:
            if cell.problem is not None:
                raise Outage("redis", cell.problem)
        known = {one.group: one.watermarks.partitions for one in held if one.watermarks is not None}
        return held, {group: count for group, count in known.items() if count is not None}
    cells: list[HeldCell] = []
    counts: dict[str, int] = {}
    for group in groups:
        held = await asyncio.gather(*(_asked(opened.cell(one.tag), group, one, view) for one in _derived(group)))
        try:
            count = await opened.partitions(group.name)
        except Outage as outage:
            if view is None:
                raise
            # Another node holds that; the partitions that write what is derived are as many.
            told = [one.watermarks.partitions or 0 for one in held if one.watermarks is not None]
            count = max(told, default=0) or None
            cells += [HeldCell(group.name, problem=outage.reason)] if count is None else []
        named = _documents(group, count or 0)
        cells += await asyncio.gather(*(_asked(opened.cell(one.tag), group, one, view) for one in named))
        cells += held
        if count is not None:
            counts[group.name] = count
    return cells, counts


def _documents(group: WatcherGroup, partitions: int) -> list[HeldCell]:
    tags = (document_tag(group.name, partitions, number) for number in range(partitions))
    return [HeldCell(group.name, tag, partition=number) for number, tag in enumerate(tags)]


def _derived(group: WatcherGroup) -> list[HeldCell]:
    declared = [one for one in group.catalog.resources.values() if one.derived]
    return [HeldCell(group.name, derived_tag(one), one.name) for one in declared]


async def _asked(
    cache: Corrections, group: WatcherGroup, cell: HeldCell, view: ClusterView | None = None
) -> HeldCell:
    names = cache.names
    node = view.holder(names.applied) if view is not None else ""
    of = group.catalog.resources[cell.resource].collection if cell.resource is not None else None
    collections = group.catalog.collections if of is None else (of,)
    try:
        held = await cache.watermarks(group.settings.kafka.group)
        (raws,) = await cache.send(("MGET", names.applied, *map(names.floor, collections)))
    except Outage as outage:
        return replace(cell, node=node, problem=outage.reason)
    versions = [cache.damage.register(raw) if isinstance(raw, bytes) else None for raw in raws]
    return replace(cell, node=node, watermarks=held, registers=tuple(_registers(cell.tag, collections, versions)))


def _registers(tag: str, collections: Iterable[str], versions: Sequence[Version | None]) -> Iterator[Register]:
    names = ("applied", *(f"floor {name}" for name in collections))
    for name, version in zip(names, versions, strict=True):
        yield Register(name, None if version is None else to_hex(version), tag)
