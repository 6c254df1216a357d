"""What is open while the API serves: one value, made and closed by the lifespan (`api.app`), handed to every request.

The types are named for readers and type checkers only: this is the API's lowest floor, and imports no room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from api.derived.figures import Figures
    from api.derived.generations import Known
    from api.derived.sources import Sources
    from api.endpoints.export import Exports
    from api.freshness.watermark import Freshness
    from api.health import ReadHealth
    from api.hits.channel import Channel
    from api.hits.fast_path import Hot
    from api.limits.buckets import Buckets
    from api.reads.reader import Reader
    from api.reads.refused_sources import Refusing
    from api.server.heard import Heard
    from api.warm import Warmer
    from api.web.compression import Compressed
    from api.web.unread import Unread
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
    limits: "Buckets | None"
    """`None`: callers may ask as often as they like."""
    reader: "Reader"
    hits: "Cache"
    """Over the connection that hits are read with."""
    sources: "Sources"
    """What the cache holds entries of."""
    figures: "Figures"
    known: "Mapping[str, Known]"
    """By resource: the generations of what is derived from it."""
    freshness: "Freshness"
    channel: "Channel | None"
    """`None`: there is no L1 to be kept true."""
    compressed: "Compressed"
    popularity: "Popularity"
    exports: "Exports"
    warmer: "Warmer"
    kinds: "Kinds"
    apply_ops: "ApplyOpsGap"
    refusing: "Refusing"


def state_of(scope: Mapping[str, Any]) -> State:
    """The state that a request's ASGI scope carries. Raises `KeyError` where no lifespan runs."""
    state: State = scope["state"][STATE]
    return state
