"""What a caller demands of an answer."""

from dataclasses import dataclass
from typing import Final

from neverstale.versions import Version


@dataclass(frozen=True, slots=True)
class Wish:
    """The demands of one request; the default accepts whatever the cache holds."""

    max_age_seconds: float | None = None
    """Serve from the cache only what is known to be at most this old; else read MongoDB."""
    no_cache: bool = False
    """Read MongoDB, whatever the cache holds."""
    only_if_cached: bool = False
    """Do not read MongoDB."""
    min_version: Version = 0
    """Miss no change up to this version. Never given up, not even for `stale_if_error_seconds`."""
    stale_if_error_seconds: float | None = None
    """If MongoDB does not answer, accept a stale answer that is known to be at most this old."""

    @property
    def demands(self) -> bool:
        """Whether the cache, or a read for somebody else, may not do."""
        return self.no_cache or self.max_age_seconds is not None or self.min_version > 0

    @property
    def insists(self) -> bool:
        """Whether nothing will do that was read before the request came."""
        return self.no_cache or (self.max_age_seconds is not None and self.max_age_seconds < 1)


ANYTHING: Final = Wish()
