"""A request's demands in its headers: `Cache-Control` (RFC 9111, RFC 5861) and `Neverstale-Min-Version`."""

from collections.abc import Iterable, Iterator
from typing import Final

from api.problems import MIN_VERSION, Problem, bad_parameter
from api.wish import ANYTHING, Wish
from neverstale.versions import Version, from_hex

Headers = Iterable[tuple[bytes, bytes]]

FOREVER: Final = 2**31
"""RFC 9111, section 1.2.2: a number of seconds too large to be represented means this."""


def wish_of(headers: Headers) -> Wish:
    """The demands; a `Problem` names a header or directive that makes no sense. Directives of others are ignored."""
    directives: dict[bytes, bytes] = {}
    min_version: Version = 0
    for name, value in headers:
        if name == b"cache-control":
            directives.update(_directives(value))
        elif name == b"neverstale-min-version":
            min_version = max(min_version, _version(value))
    if not directives and not min_version:
        return ANYTHING
    return Wish(
        max_age_seconds=_seconds(directives, b"max-age"),
        no_cache=b"no-cache" in directives,
        only_if_cached=b"only-if-cached" in directives,
        min_version=min_version,
        stale_if_error_seconds=_seconds(directives, b"stale-if-error"),
    )


def etags_of(headers: Headers) -> list[bytes]:
    """What `If-None-Match` lists, opaque tags without quotes (compared weakly); `*` stays `*`."""
    found: list[bytes] = []
    for name, value in headers:
        if name == b"if-none-match":
            found += (tag.strip().removeprefix(b"W/").strip(b'"') for tag in value.split(b","))
    return found


def _directives(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    for part in value.split(b","):
        name, _, argument = part.partition(b"=")
        yield name.strip().lower(), argument.strip().strip(b'"')


def _seconds(directives: dict[bytes, bytes], name: bytes) -> float | None:
    argument = directives.get(name)
    if argument is None:
        return None
    if not argument.isdigit():
        raise bad_parameter("Cache-Control", f"{name.decode()} wants whole seconds, e.g. {name.decode()}=5")
    return min(int(argument[:11]), FOREVER)


def _version(value: bytes) -> Version:
    try:
        return from_hex(value.strip())
    except ValueError:
        raise _bad_version() from None


def _bad_version() -> Problem:
    return bad_parameter(MIN_VERSION, "expected 16 lower-case hex digits, as in Neverstale-Version")
