"""The names of derived data in Redis, all of one resource in one slot of a cluster.

| key, after `{prefix}:{{resource}}:`  | type   | holds |
|--------------------------------------|--------|----------------------|
| `gens`                               | string | the generations, see `neverstale.derived.generations` |
| `{generation}:p`                     | hash   | partition -> highest version that its owner has begun to apply |
| `{generation}:b:{number}`            | hash   | document key -> contribution |
| `{generation}:t:{list}`              | hash   | tags: `.f` the list's floor; slot of a group -> its tag |
| `{generation}:c:{counter}`           | hash   | group -> documents, sums; see `neverstale.derived.counters.fields` |
| `{generation}:k:{ranking}`           | hash   | group -> how many members its sorted set has |
| `{generation}:z:{ranking}:{group}`   | zset   | key of a document -> score |
| `{generation}:l:{list}:{group}:{…}`  | string | a cached page: an entry, see `neverstale.redis.entries` |

Every hash holds the field `.g`, so that an empty one is there. One that is missing was lost: unknown, never empty.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from zlib import crc32

from neverstale.catalog import Resource

PRESENT: Final = b".g"
"""Field of every hash. Groups and document keys never begin with a dot."""
LIST_FLOOR: Final = b".f"
BEYOND: Final = b".b"
"""Field of counters and sizes: documents that could not be counted because they are beyond a bound."""
GUARDS: Final = [PRESENT, BEYOND]
"""Fields that say whether a hash of figures may be believed."""
EPOCH_BYTES: Final = 16
"""Of the register, at its beginning."""
_REMEMBERED: Final = 32_768
"""Names of buckets that a process keeps for a generation."""


@lru_cache(maxsize=65_536)
def slot_of(group: str) -> bytes:
    """The field of a group's tag: one of 65,536, so that a list's tags are bounded. Groups that share one are
    invalidated together."""
    return blake2b(group.encode(), digest_size=2).hexdigest().encode()


def epoch_command(key: bytes) -> tuple[bytes | int, ...]:
    """What reads the epoch of the register under this key, and nothing more. It comes behind whatever is read of a
    generation, in the same round trip."""
    return (b"GETRANGE", key, 0, EPOCH_BYTES - 1)


@dataclass(frozen=True, slots=True)
class GenerationNames:
    """The names of one generation of one resource."""

    base: str

    @property
    def partitions(self) -> bytes:
        return f"{self.base}:p".encode()

    def bucket(self, number: int) -> bytes:
        return _bucket(self.base, number)

    def buckets(self, keys: Iterable[bytes], count: int) -> list[bytes]:
        """Of each document key, the one of `count` buckets (a power of two) that holds its contribution; the same in
        every process and release."""
        names, last = _bucket_names(self.base), count - 1
        return [names[crc32(key) & last] for key in keys]

    def kept(self, letter: str, name: str) -> bytes:
        """The hash of what is kept under the letter of its kind."""
        return f"{self.base}:{letter}:{name}".encode()

    def tags(self, name: str) -> bytes:
        return self.kept("t", name)

    def counter(self, name: str) -> bytes:
        return self.kept("c", name)

    def sizes(self, ranking: str) -> bytes:
        return self.kept("k", ranking)

    def ranking(self, name: str, group: str) -> bytes:
        return f"{self.base}:z:{name}:{group}".encode()

    def page(self, name: str, group: str, cursor: str) -> bytes:
        """A page's entry; long group names are cut to a digest, for a key may be read from a URL."""
        shown = group if len(group) <= 128 else "#" + blake2b(group.encode(), digest_size=16).hexdigest()
        return f"{self.base}:l:{name}:{shown}:{cursor}".encode()


class _BucketNames(dict[int, bytes]):
    """Number -> name, made when it is first asked for: that happens twice for every change."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base

    def __missing__(self, number: int) -> bytes:
        name = _bucket(self._base, number)
        if len(self) < _REMEMBERED:
            self[number] = name
        return name


@lru_cache(maxsize=16)
def _bucket_names(base: str) -> _BucketNames:
    return _BucketNames(base)


def _bucket(base: str, number: int) -> bytes:
    return f"{base}:b:{number:x}".encode()


def derived_tag(resource: Resource) -> str:
    """The cell of what is derived from the documents of a resource (`neverstale.redis.cells`): all of it has this
    hash tag, in every layout. Names of resources have no dots, so no cell of documents is called so."""
    return resource.derived_name


@dataclass(frozen=True, slots=True)
class DerivedNames:
    """The names of one resource's derived data under a prefix."""

    prefix: str
    resource: str

    @property
    def base(self) -> str:
        return f"{self.prefix}:{{{self.resource}}}"

    @property
    def generations(self) -> bytes:
        return f"{self.base}:gens".encode()

    def of(self, generation: str) -> GenerationNames:
        return GenerationNames(f"{self.base}:{generation}")
