"""Counters of one generation, read as one Redis holds them (see `neverstale.derived.held_figures`)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neverstale.derived.counters.fields import Group, fields_to_read, read_group, read_groups
from neverstale.derived.held_figures import HeldFigures, Look
from neverstale.derived.redis_names import BEYOND, GUARDS, PRESENT
from neverstale.redis.replies import fields


def group_fields(group: str, sums: int) -> list[bytes]:
    """What to fetch of a counter for `one_group`."""
    return [*GUARDS, *(field.encode() for field in fields_to_read(group, sums))]


def one_group(values: Sequence[bytes | None]) -> Group | None:
    """Count and sums of one group from the values of `group_fields`; `None`: unknown, ask MongoDB."""
    present, beyond, *rest = values
    return None if present is None or beyond is not None else read_group(rest)


def all_groups(fields: Mapping[bytes, bytes], sums: int) -> dict[str, Group] | None:
    """Every group of a counter that is not empty, from its whole hash; `None`: unknown, ask MongoDB."""
    return None if PRESENT not in fields or BEYOND in fields else read_groups(fields, sums)


@dataclass(frozen=True, slots=True)
class HeldCounter:
    """A counter's whole hash, not decoded yet: with many fields that is work for a thread."""

    _raw: Any
    _sums: int

    def groups(self) -> dict[str, Group] | None:
        """Every group that is not empty; `None`: unknown. `ValueError`: nobody has counted so."""
        return all_groups(fields(self._raw), self._sums)


class HeldCounters(HeldFigures):
    """Raises `Outage("redis")` for everything that is not an answer."""

    def key(self, name: str) -> bytes:
        """Of the hash of one."""
        return self._names.counter(name)

    # --- with the epoch

    async def group(self, counter: str, group: str, sums: int) -> Look[Group]:
        """One group of a counter with so many sums."""
        asked = (b"HMGET", self.key(counter), *group_fields(group, sums))
        values, epoch = await self._redis.send(asked, self._epoch)
        return Look(one_group(values), epoch)

    async def counter(self, counter: str, sums: int) -> Look[HeldCounter]:
        """All of a counter with so many sums."""
        raw, epoch = await self._redis.send((b"HGETALL", self.key(counter)), self._epoch)
        return Look(HeldCounter(raw, sums), epoch)

    async def size(self, counter: str) -> int:
        """How many fields a counter has; reading a large one would hold up Redis."""
        (size,) = await self._redis.send((b"HLEN", self.key(counter)))
        return int(size)

    # --- without

    async def groups(self, counter: str, sums: int, some: Collection[str]) -> dict[str, Group]:
        """Some groups of a counter, those of which they are known."""
        key = self.key(counter)
        asked = ((b"HMGET", key, *group_fields(group, sums)) for group in some)
        found = zip(some, await self._redis.send(*asked), strict=True)
        return {group: one for group, values in found if (one := one_group(values)) is not None}
