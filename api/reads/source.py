"""Sources: what can be read. A resource is one of documents; lists, counters and rankings are others.

A source has keys, and a version at which the answers to some of them were read: `Snapshot` maps the canonical texts
of keys to bodies.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from neverstale.catalog import OnChange, Resource
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.role import telemetry
from neverstale.versions import Version

NOTHING: Final = b'{"items":[]'
"""How the body of an empty page begins."""


class Source(Protocol):
    """What the reader has to know of it."""

    @property
    def name(self) -> str:
        """In metrics and logs."""

    @property
    def collection(self) -> str: ...

    @property
    def ttl_seconds(self) -> int: ...

    @property
    def absent_ttl_seconds(self) -> int: ...

    @property
    def on_change(self) -> OnChange: ...

    @property
    def stale_while_revalidate_seconds(self) -> int: ...


class Queried(Source, Protocol):
    """A source whose answers are found by queries of its own."""

    async def load(self, loader: Loader, keys: Sequence[Any], at_least: Version) -> Snapshot:
        """Like `Loader.load`; may raise `TooSlow`, too."""


AnySource: TypeAlias = Resource | Queried


def is_absence(source: AnySource, body: bytes | None) -> bool:
    """Whether an answer says that there is nothing. Callers can think of as many as they like."""
    return body is None or (not isinstance(source, Resource) and body.startswith(NOTHING))


async def load(loader: Loader, source: AnySource, keys: Sequence[Any], at_least: Version) -> Snapshot:
    """Read MongoDB."""
    if isinstance(source, Resource):
        return await loader.load(source, keys, at_least)
    started = time.perf_counter()
    snapshot = await source.load(loader, keys, at_least)
    telemetry.LOADS.labels(source.name).inc()
    telemetry.LOAD_SECONDS.observe(time.perf_counter() - started)
    return snapshot
