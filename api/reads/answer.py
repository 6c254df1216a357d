"""What a caller demands of an answer, and answers of the reader with what is known about their age."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from neverstale.errors import NeverstaleError
from neverstale.versions import Version

How = Literal["hit", "miss", "stale", "request", "bypass"]
"""`hit`: from the cache. Otherwise why the cache did not answer: it held nothing, it held something stale, the
request's demands forbade it, or it could not be asked (RFC 9211, section 2.2, calls these `fwd`)."""

Detail = Literal["l2", "mongodb"]
"""Where the body comes from: Redis or MongoDB."""


class Answer(NamedTuple):
    """One document, or the knowledge that there is none."""

    body: bytes | None
    """JSON; `None`: known to be absent."""
    etag: bytes
    """16 hex digits, of no meaning for an absence."""
    version: Version
    """The version at which the body was read: a caller that sends it back never sees an older state."""
    complete: Version
    """The body misses no change up to this version; what its bound is derived from. Never below `version`,
    but 0 (unknown) where nothing tells of changes, and the least of all where it is made of several answers."""
    how: How
    detail: Detail
    collapsed: bool = False
    """Another request's read answered this one too."""
    failed: bool = False
    """Stale, served because MongoDB did not answer and the caller allows that."""


_LEAST_CACHED: Final[tuple[How, ...]] = ("hit", "miss", "stale", "request", "bypass")


def joined(answers: Sequence[Answer]) -> Answer:
    """What is known of an answer that is made of these: it is as complete as the least of them, and answered as the
    one that was least of a hit. Body and ETag are those of the first.

    The version is the highest: a caller that sends it back must see none of the parts in an older state.
    """
    if len(answers) == 1:
        return answers[0]
    least = max(answers, key=lambda answer: _LEAST_CACHED.index(answer.how))
    return answers[0]._replace(
        version=max(answer.version for answer in answers),
        complete=min(answer.complete for answer in answers),
        how=least.how,
        detail="mongodb" if any(answer.detail == "mongodb" for answer in answers) else "l2",
        collapsed=all(answer.collapsed for answer in answers),
        failed=any(answer.failed for answer in answers),
    )


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
    audit: bool = False
    """An auditor asks: it demands nothing by that, and is counted as nobody's read."""
    current: bool = False
    """Nothing that is known to be stale, not even while it is being read again. It is our own wish and no caller's:
    no limit of demands applies."""
    announced: Version = 0
    """What MongoDB is asked for misses no change up to this version. Nor does what Redis holds as current: whoever
    wishes this was told of changes that were applied there before."""

    @property
    def demands(self) -> bool:
        """Whether the cache, or a read for somebody else, may not do."""
        return self.no_cache or self.max_age_seconds is not None or self.min_version > 0

    @property
    def insists(self) -> bool:
        """Whether nothing will do that was read before the request came."""
        return self.no_cache or (self.max_age_seconds is not None and self.max_age_seconds < 1)


ANYTHING: Final = Wish()
AUDIT: Final = Wish(audit=True)
"""As `ANYTHING`, asked by an auditor."""


class TooManyGroups(NeverstaleError):
    """A counter has more groups than one answer may read."""


class DemandRefused(NeverstaleError):
    """The caller demands a read of MongoDB, and nobody may."""


class NotCached(NeverstaleError):
    """The caller forbade to read MongoDB, and the cache alone cannot answer."""


class TooLong(NeverstaleError):
    """No cursor can hold the position of any document of a page: their sort keys are too large."""


class NotUnique(NeverstaleError):
    """More than one document has the value that is looked up."""

    def __init__(self, resource: str, field: str) -> None:
        super().__init__(f"more than one document of {resource} has this {field}")
        self.resource = resource
        self.field = field
