"""What counters and rankings say in Redis, and what MongoDB says of the same groups, in terms that can be compared.

A counter is compared with an aggregation by MongoDB itself. A ranking is compared by the number of its members and a
digest of all of them with their scores, which does not depend on their order, so that neither side has to be held in
memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from neverstale.clients import CODEC
from neverstale.derived import queries, reading
from neverstale.derived.counters import Group
from neverstale.derived.declarations import CounterDeclaration
from neverstale.derived.generations import Generation
from neverstale.derived.groups import combinations
from neverstale.derived.members import member_of
from neverstale.derived.names import BEYOND, PRESENT, GenerationNames
from neverstale.derived.plan import facts
from neverstale.errors import Outage, Stop
from neverstale.keys import canonical
from neverstale.versions import Version, to_timestamp

MEMBERS_A_CALL: Final = 5_000
TOO_OLD: Final = 239
"""SnapshotTooOld: the state is no longer kept."""
_EXACT: Final = Context(prec=60)
_TOLERANCE: Final = Decimal("1e-14")
"""Of sums, since MongoDB takes 15 digits of a double (`$toDecimal`)."""


@dataclass(frozen=True, slots=True)
class Counted:
    documents: int
    sums: tuple[Decimal | None, ...]
    """`None`: unknown, a number in the group does not fit the scale."""

    def __str__(self) -> str:
        return ", ".join([f"{self.documents} documents", *(f"sum {one}" for one in self.sums)])


@dataclass(frozen=True, slots=True)
class Ranked:
    members: int
    digest: int

    def __str__(self) -> str:
        if self.members < 0:
            return f"a set that does not have the {-self.members} members that it should"
        return f"{self.members} members with scores (digest {self.digest:016x})"


Value: TypeAlias = Counted | Ranked
At: TypeAlias = tuple[str, str]
"""Declaration (`counters.by_status`) and name of a group."""
NOTHING_COUNTED: Final = Counted(0, ())
NOTHING_RANKED: Final = Ranked(0, 0)


def alike(one: Value, other: Value) -> bool:
    if isinstance(one, Counted) and isinstance(other, Counted):
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


class InMongoDB:
    """The documents of a collection, as of a version."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], database: str, collection: str) -> None:
        self._database = client[database]
        self._collection = collection

    async def values(self, generation: Generation, wanted: Sequence[str], version: Version) -> dict[At, Value]:
        """Every group of the wanted declarations that is not empty, at exactly this version."""
        found: dict[At, Value] = {}
        with _mongodb():
            for name in wanted:
                kind, _, own = name.partition(".")
                if kind == "counters":
                    found |= await self._counted(name, generation.shape.declared.counters[own], version)
            if any(name.startswith("rankings.") for name in wanted):
                found |= await self._ranked(generation, wanted, version)
        return found

    async def _counted(self, name: str, declared: CounterDeclaration, version: Version) -> dict[At, Value]:
        stages = queries.counter_groups(declared, {})
        command = {"aggregate": self._collection, "pipeline": stages, "cursor": {}, "allowDiskUse": True}
        found: dict[At, Value] = {}
        async for row in await self._run(command, version):
            read = queries.read_counter_row(row, len(declared.by), len(declared.sums))
            found[name, read.group] = Counted(read.documents, read.sums)
        return found

    async def _ranked(self, generation: Generation, wanted: Sequence[str], version: Version) -> dict[At, Value]:
        shape = generation.shape
        rankings = [(f"rankings.{one.name}", one) for one in shape.rankings if f"rankings.{one.name}" in wanted]
        found: dict[At, Value] = {}
        command = {"find": self._collection, "projection": shape.projection}
        async for document in await self._run(command, version):
            some = facts(shape.facts(document))
            assert some is not None
            for name, one in rankings:
                if some[one.score]:
                    member = _digest(member_of(canonical(document["_id"])), float(some[one.score]))
                    for group in combinations(one.by(some)) or ():
                        found[name, group] = _plus(found.get((name, group), NOTHING_RANKED), member)
        return found

    async def _run(self, command: dict[str, Any], version: Version) -> Any:
        at = {"level": "snapshot", "atClusterTime": to_timestamp(version)}
        command = command | {"readConcern": at, "collation": queries.BYTES}
        return await self._database.cursor_command(command, codec_options=CODEC)


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


class InRedis:
    """A generation as Redis has it just now."""

    def __init__(self, redis: Redis, names: GenerationNames) -> None:
        self._redis = redis
        self._names = names

    async def unknown(self, generation: Generation, wanted: Sequence[str]) -> dict[str, str]:
        """Of the wanted declarations, those that nobody is told from Redis, and why."""
        found = {}
        for name in wanted:
            present, beyond = await self._hash_fields(self._key(name))
            if present is None:
                found[name] = "lost"
            elif beyond is not None:
                found[name] = f"{int(beyond)} documents are beyond its bounds"
        return found

    async def values(self, generation: Generation, wanted: Sequence[str]) -> dict[At, Value]:
        """Every group of the wanted declarations that is not empty."""
        found: dict[At, Value] = {}
        for name in wanted:
            kind, _, own = name.partition(".")
            fields = await self._hash(self._key(name))
            if kind == "counters":
                declared = generation.shape.declared.counters[own]
                groups = reading.all_groups(fields, len(declared.sums)) or {}
                found |= {(name, group): _as_counted(one, declared) for group, one in groups.items()}
            else:
                for group in (field.decode() for field in fields if field[:1] != b"."):
                    found[name, group] = await self._ranked(own, group, int(fields[group.encode()]))
        return found

    async def _ranked(self, name: str, group: str, size: int) -> Ranked:
        key, digest, count = self._names.ranking(name, group), 0, 0
        while True:
            with _redis():
                pairs: Any = await self._redis.zrange(key, count, count + MEMBERS_A_CALL - 1, withscores=True)
            for member, score in pairs:
                digest += _digest(member, float(score))
            count += len(pairs)
            if len(pairs) < MEMBERS_A_CALL:
                # A set that was evicted looks like an empty one; its size tells.
                return Ranked(count if count == size else -size, digest % 2**64)

    def _key(self, declaration: str) -> bytes:
        kind, _, name = declaration.partition(".")
        return self._names.counter(name) if kind == "counters" else self._names.sizes(name)

    async def _hash(self, key: bytes) -> Mapping[bytes, bytes]:
        with _redis():
            held: Any = await self._redis.hgetall(key)
        return dict(held)

    async def _hash_fields(self, key: bytes) -> tuple[bytes | None, bytes | None]:
        with _redis():
            held: Any = await self._redis.hmget(key, [PRESENT, BEYOND])
        present, beyond = held
        return present, beyond


@contextmanager
def _redis() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Outage("redis", f"{type(error).__name__} while comparing") from error


def _as_counted(group: Group, declared: CounterDeclaration) -> Counted:
    scales = [one.scale for one in declared.sums.values()]
    sums = [
        None if one.scaled is None else _EXACT.scaleb(Decimal(one.scaled), -scale)
        for one, scale in zip(group.sums, scales, strict=True)
    ]
    return Counted(group.documents, tuple(sums))


def _digest(member: bytes, score: float) -> int:
    # Zero has two signs.
    return int.from_bytes(blake2b(member + f"\0{score + 0.0!r}".encode(), digest_size=8).digest(), "big")


def _plus(found: Value, digest: int) -> Ranked:
    assert isinstance(found, Ranked)
    return Ranked(found.members + 1, (found.digest + digest) % 2**64)
