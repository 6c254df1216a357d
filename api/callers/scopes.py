"""Scopes: what a caller may do, as words that keys and tokens carry.

    read:flights            all that is read of a resource
    read:flights:lists      one kind of it; `*` stands for any resource, or any kind
    demand:no-cache         a demand on freshness; `demand:*`: any
    tenants:orders          documents of every tenant of a resource; `tenants:*`: of every resource

Words that are none of these mean something to somebody else: a token carries them, too.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

from neverstale.catalog.declarations import KIND_NAMES

Kind: TypeAlias = str
"""A kind of read, one of `KINDS`."""
Demand = Literal["no-cache", "max-age", "only-if-cached", "stale-if-error", "min-version"]

KINDS: Final[tuple[Kind, ...]] = ("documents", *KIND_NAMES, "export", "most-read", "live")
DEMANDS: Final[tuple[Demand, ...]] = get_args(Demand)
ANY: Final = "*"
SCOPES: Final = 256
"""So many of one caller are read; a token has less."""

_RESOURCE: Final = r"(?:[a-z][a-z0-9_-]{0,62}|\*)"
_SCOPE: Final = re.compile(
    rf"read:(?P<resource>{_RESOURCE})(?::(?P<kind>{'|'.join(KINDS)}|\*))?"
    rf"|demand:(?P<demand>{'|'.join(DEMANDS)}|\*)"
    rf"|tenants:(?P<tenants>{_RESOURCE})"
)


class Rights:
    """What some scopes allow. Callers with the same scopes share one: `rights_of`."""

    __slots__ = ("_demands", "_read", "_tenants", "reads_all")

    def __init__(self, scopes: Iterable[str]) -> None:
        self._read: set[tuple[str, str]] = set()
        self._demands: set[str] = set()
        self._tenants: set[str] = set()
        for scope in scopes:
            match = _SCOPE.fullmatch(scope)
            if match is None:
                continue
            if match["demand"]:
                self._demands.add(match["demand"])
            elif match["tenants"]:
                self._tenants.add(match["tenants"])
            else:
                self._read.add((match["resource"], match["kind"] or ANY))
        self.reads_all = (ANY, ANY) in self._read
        """Whether every read of every resource is allowed."""

    def may_read(self, resource: str, kind: Kind) -> bool:
        read = self._read
        return self.reads_all or (resource, kind) in read or (resource, ANY) in read or (ANY, kind) in read

    def may_read_some(self, resource: str) -> bool:
        """Whether anything of the resource may be read."""
        return any(self.may_read(resource, kind) for kind in KINDS)

    def may_demand(self, demand: Demand) -> bool:
        return demand in self._demands or ANY in self._demands

    def sees_all_tenants(self, resource: str) -> bool:
        return resource in self._tenants or ANY in self._tenants


@lru_cache(1024)
def rights_of(scopes: tuple[str, ...]) -> Rights:
    """`scopes`: sorted, each once."""
    return Rights(scopes)


def rights_in(text: str | Iterable[object]) -> Rights:
    """The rights that a text with spaces, or a list, names."""
    words = text.split() if isinstance(text, str) else [word for word in text if isinstance(word, str)]
    return rights_of(tuple(sorted(set(words[:SCOPES]))))


def wrong_with(scope: str) -> str | None:
    """Why this is no scope of ours."""
    if _SCOPE.fullmatch(scope):
        return None
    return (
        f"{scope!r} is no scope; use read:RESOURCE, read:RESOURCE:KIND ({', '.join(KINDS)}), "
        f"demand:NAME ({', '.join(DEMANDS)}) or tenants:RESOURCE, with * for any"
    )


NO_RIGHTS: Final = rights_of(())
