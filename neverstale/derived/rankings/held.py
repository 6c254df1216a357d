"""Rankings of one generation, read as one Redis holds them (see `neverstale.derived.held_figures`)."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from neverstale.derived.held_figures import HeldFigures, Look
from neverstale.derived.rankings.members import key_of, member_of
from neverstale.derived.redis_names import GUARDS
from neverstale.errors import Outage
from neverstale.redis.commands import Command
from neverstale.redis.replies import fields, scored

MEMBERS_A_CALL: Final = 5_000
_ATTEMPTS: Final = 3
"""To see a rank and its neighbours unchanged in between."""


@dataclass(frozen=True, slots=True)
class Ranked:
    key: str
    """Canonical document key."""
    score: float
    rank: int
    """From 1."""


def size_fields(group: str) -> list[bytes]:
    """What to fetch of a ranking's sizes, in one transaction with the sorted set."""
    return [*GUARDS, group.encode()]


def is_whole(sizes: Sequence[bytes | None], members: int) -> bool:
    """Whether a sorted set has all its members: it may have been evicted, which looks like an empty one."""
    present, beyond, size = sizes
    return present is not None and beyond is None and (size or b"0") == b"%d" % members


def ranked(pairs: Sequence[tuple[bytes, float]], first: int, *, descends: bool) -> list[Ranked]:
    """Members and scores of a sorted set, in its order; `first` is the rank of the first one. `ValueError`: nobody
    has ranked so."""
    if not all(isfinite(kept) for _, kept in pairs):
        raise ValueError("a score is no number")
    return [
        Ranked(key_of(member), (-kept if descends and kept else kept), first + i)
        for i, (member, kept) in enumerate(pairs)
    ]


@dataclass(frozen=True, slots=True)
class HeldMembers:
    """Some members of a ranking, not decoded yet: with many members that is work for a thread."""

    _raw: Any
    _first: int
    _descends: bool

    def ranked(self) -> list[Ranked]:
        """`ValueError`: nobody has ranked so."""
        return ranked(scored(self._raw), self._first, descends=self._descends)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one document stands in a ranking."""

    one: Ranked | None
    """`None`: it has no rank in this group."""
    around: list[Ranked]
    """The document and its neighbours in the ranking's order; empty if none were asked for."""


class HeldRankings(HeldFigures):
    """Raises `Outage("redis")` for everything that is not an answer."""

    def key(self, name: str) -> bytes:
        """Of the hash of one."""
        return self._names.sizes(name)

    # --- with the epoch

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
                (one,) = ranked([(member, float(score))], rank + 1, descends=descends)
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
            (b"HMGET", self.key(ranking), *size_fields(group)),
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
        return (replies if is_whole(sizes, count) else None), epoch

    # --- without

    async def sizes(self, ranking: str) -> dict[str, int]:
        """Group of a ranking -> how many members its set must have."""
        (raw,) = await self._redis.send((b"HGETALL", self.key(ranking)))
        return {group.decode(): int(size) for group, size in fields(raw).items() if group[:1] != b"."}

    async def members(self, ranking: str, group: str) -> AsyncIterator[list[tuple[bytes, float]]]:
        """All members of a group's set with their scores as Redis keeps them, some thousands a round trip."""
        key, start, more = self._names.ranking(ranking, group), 0, True
        while more:
            (raw,) = await self._redis.send((b"ZRANGE", key, start, start + MEMBERS_A_CALL - 1, b"WITHSCORES"))
            some = scored(raw)
            yield some
            start, more = start + len(some), len(some) == MEMBERS_A_CALL
