"""Versions of servers that are known to be bad. Shipped with each release, and asked of nobody.

Sources, read in November 2026: MongoDB's release notes, "Past Release Limitations", and its security bulletins; the
release notes of Redis. Distributions mend old versions without changing their numbers (Debian does so), so what only
lets strangers in is a warning. What loses or invents data is a problem.
"""

from dataclasses import dataclass
from typing import Final

from neverstale.ops.check.findings import Wrong

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    server: str
    first: Version
    fixed: Version
    """The first version of the same series that is right."""
    level: Wrong
    why: str


def _mongodb(first: Version, fixed: Version, level: Wrong, why: str) -> Bad:
    return Bad("mongodb", first, fixed, level, why)


_BLEED: Final = "anybody who reaches it can read its memory (CVE-2025-14847)"
_LUA: Final = "whoever may run scripts can run anything (CVE-2025-49844)"
_ADVISORIES: Final = "it has critical advisories, see the release notes of its series"

KNOWN_BAD: Final = (
    _mongodb((5, 0, 0), (5, 0, 3), "problem", "it can lose or bring back documents (WT-7984, WT-7995)"),
    _mongodb((5, 0, 3), (5, 0, 26), "warning", _ADVISORIES),
    _mongodb((7, 0, 0), (7, 0, 16), "warning", _ADVISORIES),
    _mongodb((8, 0, 0), (8, 0, 4), "warning", _ADVISORIES),
    _mongodb((8, 3, 0), (8, 3, 13), "warning", _ADVISORIES),
    _mongodb((5, 0, 0), (5, 0, 32), "warning", _BLEED),
    _mongodb((6, 0, 0), (6, 0, 27), "warning", _BLEED),
    _mongodb((7, 0, 0), (7, 0, 28), "warning", _BLEED),
    _mongodb((8, 0, 0), (8, 0, 17), "warning", _BLEED),
    _mongodb((8, 2, 0), (8, 2, 3), "warning", _BLEED),
    Bad("redis", (6, 2, 0), (6, 2, 20), "warning", _LUA),
    Bad("redis", (7, 0, 0), (7, 2, 11), "warning", _LUA),
    Bad("redis", (7, 4, 0), (7, 4, 6), "warning", _LUA),
    Bad("redis", (8, 0, 0), (8, 0, 4), "warning", _LUA),
    Bad("redis", (8, 2, 0), (8, 2, 2), "warning", _LUA),
)


def why_bad(server: str, version: str) -> list[Bad]:
    """All that is known against a version; what cannot be read as numbers ("7.4.0-rc1") counts up to there."""
    numbers = _numbers(version)
    return [bad for bad in KNOWN_BAD if bad.server == server and bad.first <= numbers < bad.fixed]


def _numbers(version: str) -> Version:
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)
