"""What readers may conclude from derived data in Redis. Missing is *unknown*, never zero and never unchanged.

Every read asks for the generations' epoch *after* the hash, in the same pipeline: if it is still the one that the
reader knows, the generation was kept up to date when the hash was read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from neverstale.derived.counters.fields import Group, fields_to_read, read_group, read_groups
from neverstale.derived.generations import Generation
from neverstale.derived.rankings.members import key_of
from neverstale.derived.redis_names import BEYOND, LIST_FLOOR, PRESENT, slot_of
from neverstale.role.damage import Damage
from neverstale.versions import Version


def tag_fields(group: str) -> list[bytes]:
    """What to fetch of a list's tags for `page_floor`."""
    return [PRESENT, LIST_FLOOR, slot_of(group)]


def page_floor(
    generation: Generation,
    collection_floor: Version | None,
    tags: Sequence[bytes | None],
    damage: Damage | None = None,
) -> Version | None:
    """The version below which a page is stale; `None`: unknown, the page cannot be served and not be cached.

    `tags` are the values of `tag_fields`.
    """
    damage = damage or Damage()
    present, *raised = tags
    if present is None or collection_floor is None or generation.birth is None or generation.birth > damage.latest():
        return None
    versions = [damage.version("derived", tag) for tag in raised if tag is not None]
    known = [version for version in versions if version is not None]
    return max(collection_floor, generation.birth, *known) if len(known) == len(versions) else None


_GUARDS: Final = [PRESENT, BEYOND]


def group_fields(group: str, sums: int) -> list[bytes]:
    """What to fetch of a counter for `one_group`."""
    return [*_GUARDS, *(field.encode() for field in fields_to_read(group, sums))]


def one_group(values: Sequence[bytes | None]) -> Group | None:
    """Count and sums of one group from the values of `group_fields`; `None`: unknown, ask MongoDB."""
    present, beyond, *rest = values
    return None if present is None or beyond is not None else read_group(rest)


def all_groups(fields: Mapping[bytes, bytes], sums: int) -> dict[str, Group] | None:
    """Every group of a counter that is not empty, from its whole hash; `None`: unknown, ask MongoDB."""
    return None if PRESENT not in fields or BEYOND in fields else read_groups(fields, sums)


@dataclass(frozen=True, slots=True)
class Ranked:
    key: str
    """Canonical document key."""
    score: float
    rank: int
    """From 1."""


def size_fields(group: str) -> list[bytes]:
    """What to fetch of a ranking's sizes, in one transaction with the sorted set."""
    return [*_GUARDS, group.encode()]


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
