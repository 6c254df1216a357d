"""Contributions: what one document last contributed to lists, counters and rankings, with its version.

In Redis: 8 bytes version (big-endian), then the facts in UTF-8 (see `neverstale.derived.facts`). They lie in many
small hashes ("buckets") of some 16 documents each, which Redis keeps packed; a hash field for each document
alone would cost twice as much.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from neverstale.derived.facts import Facts
from neverstale.derived.groups import SPLIT
from neverstale.versions import Version

DOCUMENTS_A_BUCKET: Final = 16
"""On average; Redis searches a packed hash from its beginning, and unpacks one of more than 128 fields."""
MAX_BUCKETS: Final = 2**20


def stamp(version: Version) -> bytes:
    """What a contribution of this version begins with."""
    return version.to_bytes(8, "big")


def pack(version: Version, facts: Facts) -> bytes:
    return stamp(version) + SPLIT.join(facts).encode()


def facts_of(packed: bytes) -> Facts:
    return tuple(packed[8:].decode().split(SPLIT))


def packed_all(stamped: bytes, facts: Iterable[Facts]) -> list[bytes]:
    """What `pack` makes of each, for one version."""
    return [stamped + text.encode() for text in map(SPLIT.join, facts)]


def facts_of_all(packed: Iterable[bytes]) -> list[Facts]:
    return [tuple(one[8:].decode().split(SPLIT)) for one in packed]


class Contribution(NamedTuple):
    version: Version
    """At which its document was read."""
    facts: Facts

    @staticmethod
    def version_of(packed: bytes) -> Version:
        return int.from_bytes(packed[:8], "big")

    @classmethod
    def unpack(cls, packed: bytes) -> "Contribution":
        return cls(int.from_bytes(packed[:8], "big"), facts_of(packed))


def buckets_for(documents: int) -> int:
    """How many buckets to make for so many documents: a power of two, with room to double."""
    count = 16
    while count * DOCUMENTS_A_BUCKET < documents and count < MAX_BUCKETS:
        count *= 2
    return count


LIMB: Final = 2**32


def limbs(scaled: int) -> tuple[int, int]:
    """A scaled value as high and low limb, value = high * 2^32 + low, both with the value's sign.

    Each document adds less than 2^32 to either, so 2^31 documents cannot overflow the 64 bits of a Redis counter,
    and the difference of two contributions takes away exactly what the older one had added.
    """
    if -LIMB < scaled < LIMB:
        return 0, scaled
    high, low = divmod(abs(scaled), LIMB)
    return (high, low) if scaled > 0 else (-high, -low)


def joined(high: int, low: int) -> int:
    """The sum that two counters hold."""
    return high * LIMB + low
