"""How many partitions a topic has, as its marks say: readers must know in which cell a document lies.

The number is that of the watcher, who chose each record's partition by it, and a consumer notes it when it has read
a mark that names it: by then everything published by a former number has a version that lies in the past. Whoever
asked the broker instead could hear of a new number too early, before the watcher goes by it.

One hash for each group of watchers: partition -> number of partitions and version of its last mark,
`8:68c1f0c200000001`. The newest mark is believed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from neverstale.redis.commands import Commands
from neverstale.role.damage import MOST_PARTITIONS
from neverstale.versions import Version, to_hex

_HELD: Final = re.compile(rb"([1-9][0-9]{0,4}):([0-9a-f]{16})")


async def note(redis: Commands, watchers: str, told: Mapping[int, tuple[int, Version]]) -> None:
    """Partition -> number of partitions and version of its last mark. Raises `Outage`."""
    pairs = [item for partition, (count, at) in told.items() for item in (partition, f"{count}:{to_hex(at)}")]
    await redis.send(("HSET", redis.names.partitions(watchers), *pairs))


async def known(redis: Commands, watchers: str) -> int | None:
    """The number of partitions; `None`: no mark has told it yet. Raises `Outage`."""
    (values,) = await redis.send(("HVALS", redis.names.partitions(watchers)))
    told = [one for raw in values if (one := _read(redis, raw)) is not None]
    return max(told)[1] if told else None


async def told_by(redis: Commands, watchers: str, partitions: Sequence[int]) -> dict[int, int]:
    """Partition -> the number that its own last mark has told. Raises `Outage`."""
    if not partitions:
        return {}
    (values,) = await redis.send(("HMGET", redis.names.partitions(watchers), *partitions))
    found = {}
    for partition, raw in zip(partitions, values, strict=True):
        if raw is not None and (one := _read(redis, raw)) is not None:
            found[partition] = one[1]
    return found


def _read(redis: Commands, raw: bytes) -> tuple[Version, int] | None:
    match = _HELD.fullmatch(raw)
    version = redis.damage.version("partitions", match[2]) if match is not None else None
    if match is None or version is None or int(match[1]) > MOST_PARTITIONS:
        redis.damage.met("partitions", raw[:40])
        return None
    return version, int(match[1])
