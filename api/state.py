"""What is open while the API serves: one value, which the lifespan makes and closes and every request is handed.

The types are named for readers and type checkers only: this is the API's lowest floor, and imports no room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from neverstale.api.callers.gate import Gate
    from neverstale.api.derived.figures import Figures
    from neverstale.api.derived.generations import Known
    from neverstale.api.derived.sources import Sources
    from neverstale.api.endpoints.export import Exports
    from neverstale.api.freshness.groups import GroupedFreshness
    from neverstale.api.health import ReadHealth
    from neverstale.api.hits.channel import Channel
    from neverstale.api.hits.fast_path import Hot
    from neverstale.api.limits.buckets import Buckets
    from neverstale.api.live.endpoint import LiveReads
    from neverstale.api.reads.reader import Reader
    from neverstale.api.reads.refused_sources import Refusing
    from neverstale.api.server.heard import Heard
    from neverstale.api.warm import Warmer
    from neverstale.api.web.compression import Compressed
    from neverstale.api.web.shared_caches import SharedCaches
    from neverstale.api.web.unread import Unread
    from neverstale.mongodb.apply_ops import ApplyOpsGap
    from neverstale.mongodb.kinds import Kinds
    from neverstale.redis.cache import Cache
    from neverstale.redis.most_read import Popularity
    from neverstale.settings import Clients

STATE: Final = "neverstale"
"""Where a lifespan's state, and so every request's, has the `State`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that a request may need."""

    health: "ReadHealth"
    clients: "Clients"
    """Limits of connections and answers."""
    unread: "Unread"
    heard: "Heard | None"
    """`None`: what clients send is not counted."""
    hot: "Hot | None"
    """`None`: every request takes the ordinary way."""
    gate: "Gate"
    """Who asks, and whether he may."""
    limits: "Buckets | None"
    """`None`: callers may ask as often as they like."""
    live: "LiveReads"
    reader: "Reader"
    hits: "Cache"
    """Over the connection that hits are read with."""
    sources: "Sources"
    """What the cache holds entries of."""
    figures: "Figures"
    known: "Mapping[str, Known]"
    """By resource: the generations of what is derived from it."""
    freshness: "GroupedFreshness"
    channel: "Channel | None"
    """`None`: there is no L1 to be kept true, and nothing may be watched."""
    compressed: "Compressed"
    popularity: "Popularity"
    exports: "Exports"
    shared_caches: "SharedCaches"
    warmer: "Warmer"
    kinds: "Kinds"
    apply_ops: "ApplyOpsGap"
    refusing: "Refusing"


def state_of(scope: Mapping[str, Any]) -> State:
    """The state that a request's ASGI scope carries. Raises `KeyError` where no lifespan runs."""
    state: State = scope["state"][STATE]
    return state
