"""Answers: a value, and how fresh it is.

A header that is missing or malformed is *unknown* and fails no answer: a proxy may have dropped it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar, cast

from neverstale.versions import Version, is_hex

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Way = Literal["hit", "miss", "stale", "request", "bypass", "unknown"]
"""`hit`: from the cache. Else why the cache did not answer, see docs/http.md; `unknown`: the answer does not say."""
WAYS: Final = ("hit", "miss", "stale", "request", "bypass")
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T_co]):
    """What was read, and what is known of its age."""

    value: T_co
    """`None`: there is no such document."""
    version: Version | None
    """The version at which it was read: whoever sends it back as a demand never sees an older state."""
    bound: float | None
    """Seconds: no change that was acknowledged longer before the answer is missing; `None`: unknown."""
    age: int | None
    """The bound in whole seconds, rounded up."""
    how: Way
    detail: str
    """Where it comes from: `l1`, `l2` or `mongodb`; empty: the answer does not say."""
    etag: str | None
    """Equal for equal content."""
    headers: Mapping[str, str]


def fresh_of(value: T, headers: Mapping[str, str]) -> Fresh[T]:
    """An answer with these headers, whose names are found in lower case."""
    age = headers.get("age", "")
    how, detail = way_of(headers.get("cache-status", ""))
    return Fresh(
        value,
        version_of(headers.get("neverstale-version", "")),
        seconds_of(headers.get("neverstale-bound", "")),
        int(age) if _SECONDS.fullmatch(age) and "." not in age else None,
        how,
        detail,
        headers.get("etag"),
        headers,
    )


def seconds_of(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text) else None


def version_of(text: str) -> Version | None:
    return int(text, 16) if is_hex(text.encode("latin-1", "replace")) else None


def way_of(cache_status: str) -> tuple[Way, str]:
    """How it was answered, and from where (RFC 9211). Caches before the API may have said something, too."""
    for one in cache_status.split(","):
        name, *parameters = (part.strip() for part in one.split(";"))
        if name == "neverstale":
            said = dict(part.partition("=")[::2] for part in parameters)
            how = "hit" if "hit" in said else said.get("fwd", "")
            return cast("Way", how if how in WAYS else "unknown"), said.get("detail", "")
    return "unknown", ""
