"""Access: whether a caller may have what a route reads. This is the one place where that is decided.

A route declares what it reads (`Reads`); the fast path takes from here which request lines a caller may have answered
(`Access.hits`). What no route has declared is answered to nobody (`neverstale.api.callers.middleware`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from neverstale.api.callers.caller import ANYBODY, Caller
from neverstale.api.callers.scopes import KINDS, Demand, Kind, Rights
from neverstale.api.callers.tenants import Claimed
from neverstale.api.web.demands import wish_of
from neverstale.api.web.problems import Problem, insufficient_scope, no_credentials
from neverstale.api.web.query import kind_of
from neverstale.catalog import Resource
from neverstale.catalog.declarations import KIND_NAMES, Declaration
from neverstale.settings import CallerSettings

Headers = Iterable[tuple[bytes, bytes]]

OPEN: Final = frozenset(("/", "/livez", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"))
"""Paths that are answered to everybody who reaches them: pages and probes, no documents."""
STREAMED: Final[frozenset[Kind]] = frozenset(("documents", *KIND_NAMES))
HIT_KINDS: Final[Mapping[bytes, Kind]] = {b"": "documents", b"lists": "lists", b"by": "lookups"}
"""What the fast path answers, by what stands behind `/-/` in the path."""
RIGHTS: Final = 1024
"""Sets of scopes whose hits are remembered."""
LINES: Final = 65_536
"""Request lines whose hits are remembered."""
LINE_BYTES: Final = 256
"""Each has at most so many."""
_EVENTS: Final = b"text/event-stream"


@dataclass(frozen=True, slots=True)
class Reads:
    """What a route reads."""

    resource: str | None
    """`None`: no document of any, only what every caller may know."""
    kind: Kind = "documents"
    claims: tuple[Claimed, ...] = ()
    """Values that come from the caller's credentials."""
    split: bool = True
    """Whether it tells one tenant's documents from another's."""

    @classmethod
    def of(cls, resource: Resource, kind: Kind, declared: Declaration) -> Self:
        """What a route of something derived reads."""
        claims = resource.claims_of(declared)
        split = resource.tenant is None or claims.get(resource.tenant.field) == resource.tenant.claim
        return cls(
            resource.name,
            kind,
            tuple(Claimed(path, kind_of(path, resource), claim) for path, claim in claims.items()),
            split,
        )


NOTHING: Final = Reads(None)


class Access:
    """The rules of one catalog and its settings."""

    def __init__(self, settings: CallerSettings, resources: Mapping[str, Resource]) -> None:
        self._resources = resources
        self._configured = settings.configured
        self._demands_are_scoped = settings.configured and settings.demands == "scoped"
        self._free_max_age = settings.free_max_age_seconds
        self._closed = frozenset(name for name, each in resources.items() if not self._is_open(each))
        self._by_tenant = frozenset(name for name, each in resources.items() if each.tenant is not None)
        self.everything_is_open = not self._closed
        """Whether nobody is ever refused for who he is."""
        self._hits = {
            (name.encode(), segment): f"{name}:{kind}".encode()
            for name in resources
            for segment, kind in HIT_KINDS.items()
        }
        """What the fast path answers, by resource and by what stands behind `/-/` in the path."""
        self._allowed: dict[Rights, frozenset[bytes] | None] = {}
        self.lines: dict[bytes, bytes] = {}
        """What some request lines read: looking one up costs a quarter of reading it."""

    def _is_open(self, resource: Resource) -> bool:
        if resource.needs_claims:
            return False
        return resource.public if resource.public is not None else not self._configured

    def is_open(self, resource: str) -> bool:
        """Whether everybody may read it."""
        return resource not in self._closed

    def may_see(self, caller: Caller, resource: str) -> bool:
        """Whether a caller may know of a resource: it may read something of it."""
        return resource not in self._closed or caller.rights.may_read_some(resource)

    def refusal(self, caller: Caller, reads: Reads, headers: Headers) -> Problem | None:
        """Why a caller may not have what a route reads."""
        if reads.resource is None:
            return self._unknown(caller)
        problem = self.of_read(caller, reads.resource, reads.kind)
        live = reads.kind in STREAMED and _wants_events(headers)
        if problem is None and live:
            problem = self.of_read(caller, reads.resource, "live")
        if problem is None:
            problem = self._of_tenants(caller, reads, live=live)
        if problem is None and self._demands_are_scoped:
            problem = self._of_demands(caller, headers)
        return problem

    def of_read(self, caller: Caller, resource: str, kind: Kind) -> Problem | None:
        """Why a caller may not read this kind of a resource."""
        if resource not in self._closed or caller.rights.may_read(resource, kind):
            return None
        detail = f"This caller may not read {kind} of {resource}."
        return _missing(caller, f"read:{resource}:{kind}", detail)

    def of_other_tenants(self, caller: Caller, resource: str) -> Problem | None:
        """Why a caller may not have documents that are not told apart by tenant."""
        if resource not in self._by_tenant or caller.rights.sees_all_tenants(resource):
            return None
        detail = f"This caller may read {resource} of its own tenant only, and this is not told apart by tenant."
        return _missing(caller, f"tenants:{resource}", detail)

    def _of_tenants(self, caller: Caller, reads: Reads, *, live: bool) -> Problem | None:
        # A stream is shared by all who follow the same thing, so it must be one tenant's as a whole.
        told_apart = reads.split and not (live and not reads.claims)
        return None if told_apart or reads.resource is None else self.of_other_tenants(caller, reads.resource)

    def _unknown(self, caller: Caller) -> Problem | None:
        """What is no resource is told to whoever may read something."""
        if caller is not ANYBODY or self.everything_is_open or len(self._closed) < len(self._resources):
            return None
        return no_credentials()

    def _of_demands(self, caller: Caller, headers: Headers) -> Problem | None:
        for demand in demanded(headers, self._free_max_age):
            if not caller.rights.may_demand(demand):
                return _missing(caller, f"demand:{demand}", f"This caller may not demand {demand}.")
        return None

    def hits(self, caller: Caller) -> frozenset[bytes] | None:
        """What the fast path may answer a caller, as `hit_of` names it; `None`: every line, whatever it reads."""
        if self.everything_is_open:
            return None
        if caller.rights not in self._allowed:
            if len(self._allowed) >= RIGHTS:
                self._allowed.clear()
            self._allowed[caller.rights] = self._hits_of(caller)
        return self._allowed[caller.rights]

    def _hits_of(self, caller: Caller) -> frozenset[bytes] | None:
        found = frozenset(
            self._hits[name.encode(), segment]
            for name, resource in self._resources.items()
            for segment, kind in HIT_KINDS.items()
            if self.of_read(caller, name, kind) is None
            and (not resource.needs_claims or caller.rights.sees_all_tenants(name))
        )
        reads_all = all(self.of_read(caller, name, kind) is None for name in self._resources for kind in KINDS)
        return None if reads_all and len(found) == len(self._hits) else found

    def hit_of(self, line: bytes) -> bytes | None:
        """What a request line of the fast path reads; `None`: it is none of ours, and may be anything."""
        hit = self.lines.get(line)
        if hit is None:
            parts = line.split(b"/", 5)  # GET , v1, resource, key HTTP, 1.1; or GET , v1, resource, -, lists, name…
            hit = self._hits.get((parts[2], parts[4] if parts[3] == b"-" else b"")) if len(parts) > 3 else None
            if hit is not None and len(line) <= LINE_BYTES:
                if len(self.lines) >= LINES:
                    self.lines.clear()
                self.lines[line] = hit
        return hit


def demanded(headers: Headers, free_max_age_seconds: float) -> Iterable[Demand]:
    """What a request demands, but for what is free."""
    wish = wish_of(headers)
    if wish.no_cache:
        yield "no-cache"
    if wish.max_age_seconds is not None and wish.max_age_seconds < free_max_age_seconds:
        yield "max-age"
    if wish.only_if_cached:
        yield "only-if-cached"
    if wish.stale_if_error_seconds is not None:
        yield "stale-if-error"
    if wish.min_version:
        yield "min-version"


def _missing(caller: Caller, scope: str, detail: str) -> Problem:
    return no_credentials() if caller is ANYBODY else insufficient_scope(scope, detail)


def _wants_events(headers: Headers) -> bool:
    return any(name == b"accept" and _EVENTS in value.lower() for name, value in headers)
