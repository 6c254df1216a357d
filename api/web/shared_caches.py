"""What caches between us and callers are told, CDNs above all: `CDN-Cache-Control` (RFC 9213), and tags to purge by.

A resource with `shared_max_age_seconds` may be kept by them for so long, counted from the `Age` that we state: so
what they serve misses no change that was acknowledged longer ago than that, or than the bound that it had when it
was fetched, if that was wider. An answer without a bound is not kept. Only what everybody may read is: a shared cache
knows nobody's rights.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from neverstale.api.web.headers import RawHeaders, pairs
from neverstale.catalog import Resource

NO_LINES: Final = b""


class SharedCaches:
    """Header lines by resource, made once."""

    def __init__(self, resources: Mapping[str, Resource], is_open: Callable[[str], bool]) -> None:
        """`is_open`: whether everybody may read a resource."""
        self._ages = {
            name: resource.shared_max_age_seconds
            for name, resource in resources.items()
            if resource.shared_max_age_seconds and is_open(name)
        }
        self._lines = {name: _lines((name,), age) for name, age in self._ages.items()}

    def lines(self, source: str) -> bytes:
        """Of a source by its name: `flights`, `flights.lists.departures`. Empty: nobody may keep it."""
        return self._lines.get(source.partition(".")[0], NO_LINES) if self._lines else NO_LINES

    def headers(self, resources: Iterable[str]) -> RawHeaders:
        """Of an answer with documents of these resources: none unless each of them may be kept; then the shortest."""
        names = sorted(resources)
        if not self._ages or not all(name in self._ages for name in names):
            return []
        return pairs(_lines(names, min(self._ages[name] for name in names)))


def _lines(names: Iterable[str], age_seconds: int) -> bytes:
    tags = [name.encode() for name in names]
    return (
        b"cdn-cache-control: max-age=%d\r\ncache-tag: %b\r\nsurrogate-key: %b\r\nvary: neverstale-min-version\r\n"
        % (age_seconds, b",".join(tags), b" ".join(tags))
    )
