"""The gate: what the headers of a request say of its caller, decided once for all requests with the same headers.

A caller sends the same header lines with every request. What they mean is remembered with them: who it is, what the
fast path may answer him, what his limit is counted by, and which header lines answers to him have. A `Badge` ends
when the credentials end, and all of them when keys change.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from neverstale.api.callers.access import Access
from neverstale.api.callers.addresses import Addresses
from neverstale.api.callers.caller import ANYBODY, Caller
from neverstale.api.callers.cross_origin import CrossOrigin
from neverstale.api.callers.identify import Callers
from neverstale.api.web.demands import Plain

Known = tuple[bytes, Plain, Any]
"""A block of header lines, what it means, and the `Badge` of its sender where it matters who that is."""
BLOCKS: Final = 4096
"""At most so many blocks of header lines are remembered."""


class Badge:
    """What some header lines say of their sender."""

    __slots__ = ("_access", "age", "all_hits", "bucket", "caller", "hits", "lines", "private", "until")

    def __init__(self, caller: Caller, access: Access, bucket: bytes, lines: bytes = b"", age: object = None) -> None:
        self.caller = caller
        self.age = age
        """The gate's when it was given: it holds no longer than that."""
        self.until = caller.until
        self.bucket = caller.bucket or bucket
        """What the limit is counted by; empty: by the connection's address."""
        self.private = caller is not ANYBODY
        """Answers are for this caller alone, and no shared cache."""
        self.lines = lines
        """Further header lines of every answer."""
        hits = access.hits(caller)
        self.all_hits = hits is None
        """The fast path may answer every line."""
        self.hits = hits if hits is not None else frozenset()
        """What it may answer, as `Access.hit_of` names it."""
        self._access = access

    def may_have(self, line: bytes) -> bool:
        """Whether the fast path may answer this request line."""
        return self.all_hits or self._access.hit_of(line) in self.hits


class Gate:
    """The badges of one process."""

    def __init__(
        self,
        access: Access,
        callers: Callers,
        addresses: Addresses,
        cross_origin: CrossOrigin,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.access = access
        self.callers = callers
        self.cross_origin = cross_origin
        self._addresses = addresses
        self.clock = clock
        self.lines = access.lines
        self.age: object = object()
        """Another one whenever keys have changed; what was believed before is not believed any more."""
        self.blocks: dict[bytes, Known] = {}
        """Blocks of header lines that were plain, with what they mean."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when nobody is believed any more who has shown something before."""
        callers.on_change = self._forget

    def _forget(self) -> None:
        self.age = object()
        self.blocks.clear()
        self.on_change()

    @property
    def admits_all(self) -> bool:
        """Whether it matters to no answer who asks."""
        return self.access.everything_is_open and not self.callers.configured and not self.cross_origin.on

    def badge_of(self, headers: Iterable[tuple[bytes, bytes]]) -> Badge | None:
        """What headers (names in lower case) say; `None`: their credentials must be verified first."""
        headers = list(headers)
        caller = self.callers.remembered(headers)
        return None if caller is None else self.badge(caller, headers)

    def badge(self, caller: Caller, headers: Sequence[tuple[bytes, bytes]]) -> Badge:
        bucket, lines = self._addresses.named(headers), self.cross_origin.lines(headers)
        return Badge(caller, self.access, bucket, lines, self.age)

    def remember(self, block: bytes, plain: Plain, badge: Badge) -> None:
        if len(self.blocks) >= BLOCKS:
            self.blocks.clear()
        self.blocks[block] = block, plain, badge
