"""Counters and rankings of one generation, read as one Redis holds them.

Missing is *unknown*, never zero (see `neverstale.derived.reading`). What the API answers with is read by `group`,
`counter`, `top` and `standing`: behind it, in the same round trip, they read the epoch of the generations. If that is
still the one that the caller knows, the generation was kept up to date when the figure was read. What `rebuild
--check` compares with MongoDB is read by the others, which do not ask for the epoch.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from neverstale.derived import reading
from neverstale.derived.counters.fields import Group
from neverstale.derived.generations import epoch_command
from neverstale.derived.rankings.members import member_of
from neverstale.derived.reading import Ranked
from neverstale.derived.redis_names import BEYOND, PRESENT, DerivedNames
from neverstale.errors import Outage
from neverstale.redis.commands import Command, Commands
from neverstale.redis.replies import fields, scored

FigureKind: TypeAlias = Literal["counters", "rankings"]

MEMBERS_A_CALL: Final = 5_000
_ATTEMPTS: Final = 3
"""To see a rank and its neighbours unchanged in between."""

FoundT = TypeVar("FoundT")


class Look(NamedTuple, Generic[FoundT]):
    """What a look has found."""

    found: FoundT | None
    """`None`: unknown, ask MongoDB."""
    epoch: bytes
    """Of the generations, read behind it."""


@dataclass(frozen=True, slots=True)
class HeldCounter:
    """A counter's whole hash, not decoded yet: with many fields that is work for a thread."""

    _raw: Any
    _sums: int

    def groups(self) -> dict[str, Group] | None:
        """Every group that is not empty; `None`: unknown. `ValueError`: nobody has counted so."""
        return reading.all_groups(fields(self._raw), self._sums)


@dataclass(frozen=True, slots=True)
class HeldMembers:
    """Some members of a ranking, not decoded yet: with many members that is work for a thread."""

    _raw: Any
    _first: int
    _descends: bool

    def ranked(self) -> list[Ranked]:
        """`ValueError`: nobody has ranked so."""
        return reading.ranked(scored(self._raw), self._first, descends=self._descends)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one document stands in a ranking."""

    one: Ranked | None
    """`None`: it has no rank in this group."""
    around: list[Ranked]
    """The document and its neighbours in the ranking's order; empty if none were asked for."""


class Wholeness(NamedTuple):
    """What says whether a counter or a ranking may be believed."""

    is_there: bool
    beyond: int | None
    """Documents that could not be counted because they are beyond a bound; `None`: there are none."""


class HeldFigures:
    """Raises `Outage("redis")` for everything that is not an answer."""

    def __init__(self, redis: Commands, names: DerivedNames, generation: str) -> None:
        self._redis = redis
        self._names = names.of(generation)
        self._epoch = epoch_command(names.generations)

    # --- with the epoch

    async def group(self, counter: str, group: str, sums: int) -> Look[Group]:
        """One group of a counter with so many sums."""
        asked = (b"HMGET", self._names.counter(counter), *reading.group_fields(group, sums))
        values, epoch = await self._redis.send(asked, self._epoch)
        return Look(reading.one_group(values), epoch)

    async def counter(self, counter: str, sums: int) -> Look[HeldCounter]:
        """All of a counter with so many sums."""
        raw, epoch = await self._redis.send((b"HGETALL", self._names.counter(counter)), self._epoch)
        return Look(HeldCounter(raw, sums), epoch)

    async def size(self, counter: str) -> int:
        """How many fields a counter has; reading a large one would hold up Redis."""
        (size,) = await self._redis.send((b"HLEN", self._names.counter(counter)))
        return int(size)

    async def top(self, ranking: str, group: str, count: int, *, descends: bool) -> Look[HeldMembers]:
        """The first `count` of a group's ranking."""
        members = self._names.ranking(ranking, group)
        replies, epoch = await self._whole(ranking, group, (b"ZRANGE", members, 0, count - 1, b"WITHSCORES"))
        return Look(HeldMembers(replies[0], 1, descends) if replies is not None else None, epoch)

    async def standing(self, ranking: str, group: str, key: str, beside: int, *, descends: bool) -> Look[Standing]:
        """Where the document with this canonical key stands, with `beside` neighbours on either side; unknown also if
        its rank keeps changing."""
        members, member = self._names.ranking(ranking, group), member_of(key)
        asked: tuple[Command, ...] = (b"ZRANK", members, member), (b"ZSCORE", members, member)
        low = high = 0
        epoch = b""
        for _ in range(_ATTEMPTS):
            around = (b"ZRANGE", members, low, high, b"WITHSCORES")
            replies, epoch = await self._whole(ranking, group, *asked, around)
            if replies is None:
                return Look(None, epoch)
            rank, score, raw = replies
            if rank is None:
                return Look(Standing(None, []), epoch)
            if not beside or (low, high) == (max(rank - beside, 0), rank + beside):
                (one,) = reading.ranked([(member, float(score))], rank + 1, descends=descends)
                neighbours = HeldMembers(raw, low + 1, descends).ranked() if beside else []
                return Look(Standing(one, neighbours), epoch)
            low, high = max(rank - beside, 0), rank + beside
        return Look(None, epoch)

    async def _whole(self, ranking: str, group: str, *commands: Command) -> tuple[list[Any] | None, bytes]:
        """The replies, all of one moment, and the epoch behind them; `None`: the set is not known to be whole."""
        members = self._names.ranking(ranking, group)
        # Names in bytes keep the client from reading anything into the replies within the transaction.
        *_, executed, epoch = await self._redis.send(
            (b"MULTI",),
            *commands,
            (b"ZCARD", members),
            (b"HMGET", self._names.sizes(ranking), *reading.size_fields(group)),
            (b"EXEC",),
            self._epoch,
        )
        if not isinstance(executed, list):
            raise Outage("redis", "EXEC")
        if wrong := next((reply for reply in executed if isinstance(reply, Exception)), None):
            # The server answers; what it holds is no sorted set, or no hash.
            self._redis.damage.met("derived", f"{members!r}: {wrong}")
            return None, epoch
        *replies, count, sizes = executed
        return (replies if reading.is_whole(sizes, count) else None), epoch

    # --- without

    async def wholeness(self, kind: FigureKind, name: str) -> Wholeness:
        key = self._names.counter(name) if kind == "counters" else self._names.sizes(name)
        ((present, beyond),) = await self._redis.send((b"HMGET", key, PRESENT, BEYOND))
        return Wholeness(present is not None, int(beyond) if beyond is not None else None)

    async def groups(self, counter: str, sums: int, some: Collection[str]) -> dict[str, Group]:
        """Some groups of a counter, those of which they are known."""
        key = self._names.counter(counter)
        asked = ((b"HMGET", key, *reading.group_fields(group, sums)) for group in some)
        found = zip(some, await self._redis.send(*asked), strict=True)
        return {group: one for group, values in found if (one := reading.one_group(values)) is not None}

    async def sizes(self, ranking: str) -> dict[str, int]:
        """Group of a ranking -> how many members its set must have."""
        (raw,) = await self._redis.send((b"HGETALL", self._names.sizes(ranking)))
        return {group.decode(): int(size) for group, size in fields(raw).items() if group[:1] != b"."}

    async def members(self, ranking: str, group: str) -> AsyncIterator[list[tuple[bytes, float]]]:
        """All members of a group's set with their scores as Redis keeps them, some thousands a round trip."""
        key, start, more = self._names.ranking(ranking, group), 0, True
        while more:
            (raw,) = await self._redis.send((b"ZRANGE", key, start, start + MEMBERS_A_CALL - 1, b"WITHSCORES"))
            some = scored(raw)
            yield some
            start, more = start + len(some), len(some) == MEMBERS_A_CALL
