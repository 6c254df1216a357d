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


ANYTHING: Final = Wish()
