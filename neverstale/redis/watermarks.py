"""Watermarks: what a consumer group has applied of each partition, as one Redis holds it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neverstale.role.damage import MOST_PARTITIONS, Damage
from neverstale.versions import Version

_HELD: Final = re.compile(rb"([0-9a-f]{16}):([0-9]{13,15}):([\x21-\x7e]{1,100})")
_COUNT: Final = re.compile(rb"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Watermark:
    version: Version
    wall_ms: int
    identity: str
    """The Redis on which it was applied."""


@dataclass(frozen=True, slots=True)
class Watermarks:
    """What a consumer group has applied, and on which Redis we read it."""

    identity: str
    partitions: int | None
    by_partition: dict[int, Watermark]
    coverages: frozenset[str] = frozenset()
    """Digests of what those who have applied them cover (`neverstale.catalog.coverage`), as far as they told."""


def count_of(raw: bytes | None, damage: Damage) -> int | None:
    """How many partitions there are; `None`: unknown."""
    if raw is None:
        return None
    count = int(raw) if _COUNT.fullmatch(raw) else MOST_PARTITIONS + 1
    if count <= MOST_PARTITIONS:
        return count
    damage.met("watermark", f"partitions {raw[:40]!r}")
    return None


def watermarks_of(values: Sequence[bytes | None], damage: Damage, first: int = 0) -> dict[int, Watermark]:
    """The watermarks of partitions from the first on. Damaged ones are missing: nobody knows what was applied
    there."""
    found = {}
    for partition, raw in enumerate(values, first):
        if raw is not None and (watermark := _read(raw, damage)) is not None:
            found[partition] = watermark
    return found


def coverages_of(values: Sequence[bytes | None]) -> frozenset[str]:
    """The digests among them; what is none covers nothing."""
    return frozenset(raw[:16].decode("ascii", "replace") for raw in values if raw is not None)


def coverage_field(partition: int) -> str:
    """The field of a group's hash that says with which coverage a partition was applied."""
    return f"c{partition}"


def coverage_text_field(digest: str) -> str:
    return f"={digest}"


def _read(raw: bytes, damage: Damage) -> Watermark | None:
    match = _HELD.fullmatch(raw)
    if match is None:
        damage.met("watermark", raw)
        return None
    version = damage.version("watermark", match[1])
    if version is None:
        return None
    wall_ms = int(match[2])
    if damage.is_ahead(wall_ms):
        damage.met("watermark", f"wall time {wall_ms} lies ahead of MongoDB's clock")
        return None
    return Watermark(version, wall_ms, match[3].decode("ascii"))
