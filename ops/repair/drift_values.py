"""What counters and rankings say in Redis, and what MongoDB says of the same groups, in terms that can be compared.

A counter is compared with an aggregation by MongoDB itself. A ranking is compared by the number of its members and a
digest of all of them with their scores, which does not depend on their order, so that neither side has to be held in
memory.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS as RAW
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from neverstale.bson.texts import NULL, value_of
from neverstale.bson.values import RawObject
from neverstale.catalog.declarations import CounterDeclaration, RankingDeclaration
from neverstale.derived import queries
from neverstale.derived.counters.fields import Group
from neverstale.derived.groups import combinations, fact_at, members
from neverstale.derived.held_figures import FigureKind, HeldFigures
from neverstale.derived.rankings.members import member_of
from neverstale.errors import Outage, Stop
from neverstale.keys import canonical
from neverstale.mongodb.replies import decoded
from neverstale.versions import Version, to_timestamp

A_BATCH: Final = 1_000
"""Documents or rows. In between others have their turn: a driver that cannot watch its server gives it up."""
MOST_GROUPS: Final = 100
"""That are asked for one by one; more are found by reading everything."""
TOO_OLD: Final = 239
"""SnapshotTooOld: the state is no longer kept."""
_EXACT: Final = Context(prec=60, traps=[])
_TOLERANCE: Final = Decimal("1e-14")
"""Of sums, since MongoDB takes 15 digits of a double (`$toDecimal`)."""


@dataclass(frozen=True, slots=True)
class CounterDrift:
    documents: int
    sums: tuple[Decimal | None, ...]
    """`None`: unknown, a number in the group does not fit the scale."""

    def __str__(self) -> str:
        return ", ".join([f"{self.documents} documents", *(f"sum {one}" for one in self.sums)])


@dataclass(frozen=True, slots=True)
class RankingDrift:
    members: int
    digest: int

    def __str__(self) -> str:
        if self.members < 0:
            return f"a set that does not have the {-self.members} members that it should"
        return f"{self.members} members with scores (digest {self.digest:016x})"


Value: TypeAlias = CounterDrift | RankingDrift
Compared: TypeAlias = CounterDeclaration | RankingDeclaration
LOST: Final = "lost"
NOTHING_COUNTED: Final = CounterDrift(0, ())
NOTHING_RANKED: Final = RankingDrift(0, 0)


def alike(one: Value, other: Value) -> bool:
    if isinstance(one, CounterDrift) and isinstance(other, CounterDrift):
        pairs = zip(one.sums, other.sums, strict=False)
        return one.documents == other.documents and all(_nearly(*pair) for pair in pairs)
    return one == other


def _nearly(one: Decimal | None, other: Decimal | None) -> bool:
    if one is None or other is None:
        return True
    if not (one.is_finite() and other.is_finite()):
        return one == other
    return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other))


# --- MongoDB


class GroupsInMongoDB:
    """The documents of a collection, as of a version."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], database: str, collection: str) -> None:
        self._database = client[database]
        self._collection = collection

    async def values(
        self, name: str, declared: Compared, version: Version, only: Collection[str] = ()
    ) -> dict[str, Value]:
        """Every group that is not empty, at exactly this version. Given `only`, others may be missing or wrong."""
        matching = _documents_of(declared.by, only)
        with _mongodb():
            if isinstance(declared, CounterDeclaration):
                return await self._counted(declared, matching, version)
            return await self._ranked(declared, matching, version)

    async def _counted(
        self, declared: CounterDeclaration, matching: dict[str, Any], version: Version
    ) -> dict[str, Value]:
        stages = [{"$match": matching}, *queries.counter_groups(declared, {})]
        cursor = {"batchSize": A_BATCH}
        command = {"aggregate": self._collection, "pipeline": stages, "cursor": cursor, "allowDiskUse": True}
        found: dict[str, Value] = {}
        async for row in self._run(command, version):
            read = queries.read_counter_row(row, len(declared.by), len(declared.sums))
            if is_told(read.group):
                found[read.group] = _added(found.get(read.group), read)
        return found

    async def _ranked(
        self, declared: RankingDeclaration, matching: dict[str, Any], version: Version
    ) -> dict[str, Value]:
        paths = (*declared.by, declared.path)
        projection = {path: 1 for path in paths if not any(path.startswith(other + ".") for other in paths)}
        command = {"find": self._collection, "filter": matching, "projection": projection, "batchSize": A_BATCH}
        found: dict[str, Value] = {}
        async for document in self._run(command, version):
            score = queries.score_of(declared, document)
            if score is not None:
                kept = -score if declared.descends else score
                member = _digest(member_of(canonical(document["_id"])), kept)
                for group in combinations(tuple(fact_at(document, path) for path in declared.by)) or ():
                    found[group] = _plus(found.get(group, NOTHING_RANKED), member)
        return found

    async def _run(self, command: dict[str, Any], version: Version) -> AsyncIterator[dict[str, Any]]:
        at = {"level": "snapshot", "atClusterTime": to_timestamp(version)}
        command = command | {"readConcern": at, "collation": queries.BYTES}
        cursor: Any = await self._database.cursor_command(command, codec_options=RAW)
        async for document in cursor:
            yield decoded(document)


def _documents_of(by: Sequence[str], groups: Collection[str]) -> dict[str, Any]:
    """A filter for the documents of some groups, and perhaps others; for all, if that can be told no better."""
    texts = [members(group, len(by)) for group in groups]
    if not by or not 0 < len(texts) <= MOST_GROUPS or any(NULL in each for each in texts):
        return {}  # What is counted as null, a filter may not find: an empty array on the way to a path.
    return {"$or": [queries.equal(by, list(map(value_of, each))) for each in texts]}


def is_told(group: str) -> bool:
    """Whether MongoDB's aggregations tell a group from others: an object with two fields of one name they do not."""
    return "x:" not in group or not any(map(_has_odd_names, map(value_of, group.split("|"))))


def _has_odd_names(value: Any) -> bool:
    if isinstance(value, RawObject):
        return True
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_odd_names, inside))


def _added(held: Value | None, row: queries.CounterRow) -> CounterDrift:
    """Rows that are one group of ours, together."""
    if held is None:
        return CounterDrift(row.documents, row.sums)
    assert isinstance(held, CounterDrift)
    sums = [None if one is None else _EXACT.add(one, more) for one, more in zip(held.sums, row.sums, strict=True)]
    return CounterDrift(held.documents + row.documents, tuple(sums))


@contextmanager
def _mongodb() -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        if error.code == TOO_OLD:
            raise Stop(
                "MongoDB no longer has the state to compare with: reading takes longer than it keeps one "
                "(minSnapshotHistoryWindowInSeconds), or the consumers are that far behind"
            ) from None
        raise Outage("mongodb", f"error {error.code} while comparing") from error
    except PyMongoError as error:
        raise Outage("mongodb", f"{type(error).__name__} while comparing") from error


# --- Redis


class GroupsInRedis:
    """A generation as Redis has it just now. Raises `Outage`."""

    def __init__(self, figures: HeldFigures) -> None:
        self._figures = figures

    async def unknown(self, name: str, declared: Compared) -> str | None:
        """Why nobody is told from Redis, if so."""
        kind: FigureKind = "counters" if isinstance(declared, CounterDeclaration) else "rankings"
        whole = await self._figures.wholeness(kind, name)
        if not whole.is_there:
            return LOST
        return None if whole.beyond is None else f"{whole.beyond} documents are beyond its bounds"

    async def values(self, name: str, declared: Compared, only: Collection[str] = ()) -> dict[str, Value]:
        """Every group that is not empty; given `only`, at least those."""
        if isinstance(declared, CounterDeclaration):
            counted = await self._counted(name, declared, only)
            known = {group: one for group, one in counted.items() if one.documents and is_told(group)}
            return {group: _as_counted(one, declared) for group, one in known.items()}
        sizes = await self._figures.sizes(name)
        wanted = [group for group in sizes if not only or group in only]
        return {group: await self._ranked(name, group, sizes[group]) for group in wanted}

    async def _counted(self, name: str, declared: CounterDeclaration, only: Collection[str]) -> Mapping[str, Group]:
        sums = len(declared.sums)
        if 0 < len(only) <= MOST_GROUPS:
            return await self._figures.groups(name, sums, only)
        whole = (await self._figures.counter(name, sums)).found
        return (whole.groups() if whole is not None else None) or {}

    async def _ranked(self, name: str, group: str, size: int) -> RankingDrift:
        digest = count = 0
        async for some in self._figures.members(name, group):
            digest += sum(_digest(*one) for one in some)
            count += len(some)
        # A set that was evicted looks like an empty one; its size tells.
        return RankingDrift(count if count == size else -size, digest % 2**64)


def _as_counted(group: Group, declared: CounterDeclaration) -> CounterDrift:
    scales = [one.scale for one in declared.sums.values()]
    sums = [
        None if one.scaled is None else _EXACT.scaleb(Decimal(one.scaled), -scale)
        for one, scale in zip(group.sums, scales, strict=True)
    ]
    return CounterDrift(group.documents, tuple(sums))


def _digest(member: bytes, score: float) -> int:
    # Zero has two signs.
    return int.from_bytes(blake2b(member + f"\0{score + 0.0!r}".encode(), digest_size=8).digest(), "big")


def _plus(found: Value, digest: int) -> RankingDrift:
    assert isinstance(found, RankingDrift)
    return RankingDrift(found.members + 1, (found.digest + digest) % 2**64)
