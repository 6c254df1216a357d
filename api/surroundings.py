"""What the readers of the API stand in, however keys are laid out in Redis."""

from collections.abc import Callable
from dataclasses import dataclass, field

from neverstale.api.derived.figures import Figures
from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.health import ReadHealth
from neverstale.api.live.feeds import Feeds
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.catalog import Catalog
from neverstale.mongodb.kinds import Kinds
from neverstale.redis.cache import Cache
from neverstale.role.damage import Damage
from neverstale.role.tasks import Tasks
from neverstale.settings import Settings


@dataclass(frozen=True, slots=True)
class ReadSurroundings:
    """What readers are made with."""

    settings: Settings
    catalog: Catalog
    health: ReadHealth
    damage: Damage
    marks: Bounds
    tasks: Tasks
    loads: Loads
    aggregations: Loads
    kinds: Kinds
    feeds: Feeds
    breaker: Callable[[], Breaker]
    troubles: dict[str, str] = field(default_factory=dict)
    """Cell -> what is wrong with it."""

    @property
    def secret(self) -> bytes:
        """Signs cursors."""
        secret = self.settings.api.cursor_secret
        return secret.get_secret_value().encode() if secret is not None else b""

    def figures(self, cache: Cache, freshness: GroupedFreshness, breaker: Breaker) -> Figures:
        """The counters and rankings that lie in one Redis, or cell."""
        api = self.settings.api
        kept_seconds = api.aggregation_kept_ms / 1000
        return Figures(
            cache, self.aggregations, api.demands, freshness, breaker, self.tasks, kept_seconds, kinds=self.kinds
        )
