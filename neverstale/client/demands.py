"""What a reader may demand of an answer; nothing is demanded by default but what its session has seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from neverstale.versions import Version, to_hex


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one request; see "Demands of a request" in the HTTP interface."""

    max_age: int | None = None
    """Seconds: nothing older."""
    no_cache: bool = False
    """Read MongoDB now."""
    only_if_cached: bool = False
    """Do not read MongoDB: `NotInCache` if the cache cannot answer."""
    stale_if_error: int | None = None
    """Seconds: something stale of at most this age will do if MongoDB does not answer."""
    min_version: Version = 0
    """Miss no change up to this version."""

    def headers(self, seen: Version) -> dict[str, str]:
        """`seen`: the version of the session."""
        told: dict[str, str] = {}
        if directives := ", ".join(self._directives()):
            told["Cache-Control"] = directives
        if version := max(self.min_version, seen):
            told["Neverstale-Min-Version"] = to_hex(version)
        return told

    def _directives(self) -> Iterator[str]:
        if self.max_age is not None:
            yield f"max-age={self.max_age}"
        if self.no_cache:
            yield "no-cache"
        if self.only_if_cached:
            yield "only-if-cached"
        if self.stale_if_error is not None:
            yield f"stale-if-error={self.stale_if_error}"


ANY: Final = Demand()
