"""Shares: what each cell's channel vouches for, in the memory and the live reads that all cells share.

Answers in L1 state the bound of the cell that is furthest behind, since a line does not say which cell it came from.
A cell that has not been vouched for, or is so far behind that it would make all answers look old, has no share:
nothing of it is kept. When a cell loses its share, all that is kept is forgotten once.
"""

from collections.abc import Collection, Iterable
from typing import Final

from neverstale.api.live.feeds import Feeds
from neverstale.api.reads.l1 import L1, Reading
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.versions import Version

BEHIND_SECONDS: Final = 2
"""A cell whose watermark is so much older than the newest one has no share."""


class SharedL1(L1):
    """The L1 of a process; `share` makes a cell's."""

    def __init__(self, limit_bytes: int, life_seconds: float) -> None:
        super().__init__(limit_bytes, life_seconds)
        self._shares: dict[L1Share, Version] = {}
        self._newest: Version = 0
        self._least: Version = 0

    @property
    def watermark(self) -> Version:
        return self._least

    def watermark_of(self, group: str) -> Version:
        return self._least

    def share(self) -> "L1Share":
        return L1Share(self)

    def note(self, share: "L1Share", vouched: Version) -> None:
        """A cell's share is vouched for up to here; 0: not at all."""
        self._newest = max(self._newest, vouched)
        had = share.kept_up_to
        self._shares.pop(share, None)
        share.kept_up_to = 0
        if vouched:
            self._shares[share] = vouched
        gone = had and not vouched
        for one, at in self._shares.items():
            before = had if one is share else one.kept_up_to
            one.kept_up_to = at if self._keeps and not self._is_behind(at) else 0
            gone = gone or (before and not one.kept_up_to)
        self._least = min([one.kept_up_to for one in self._shares if one.kept_up_to], default=0)
        if gone or not self._least:
            self.clear()
        else:
            self.vouch(self._least)

    def _is_behind(self, vouched: Version) -> bool:
        return (self._newest >> 32) - (vouched >> 32) > BEHIND_SECONDS


class L1Share(L1):
    """One cell's share: what is read and announced there goes to the L1 of the process."""

    def __init__(self, of: SharedL1) -> None:
        super().__init__(0, 1.0)
        self.kept_up_to: Version = 0
        """0: nothing of this cell is kept."""
        self._of = of

    @property
    def watermark(self) -> Version:
        return self.kept_up_to

    def watermark_of(self, group: str) -> Version:
        return self.kept_up_to

    @property
    def idle(self) -> bool:
        return self._of.idle

    def begin(self, keys: Collection[bytes], group: str = DEFAULT_GROUP) -> Reading:
        reading = self._of.begin(keys)
        if not self.kept_up_to:
            reading.spoil_all()
        return reading

    def end(self, reading: Reading) -> None:
        self._of.end(reading)

    def changed(self, key: bytes, lines: Iterable[bytes]) -> None:
        self._of.changed(key, lines)

    def changed_group(self, group: bytes) -> None:
        self._of.changed_group(group)

    def changed_groups(self, beginning: bytes) -> None:
        self._of.changed_groups(beginning)

    def clear(self) -> None:
        self._of.clear()

    def vouch(self, watermark: Version, group: str = DEFAULT_GROUP) -> None:
        self._of.note(self, max(watermark, self.kept_up_to))

    def void(self) -> None:
        self._of.note(self, 0)


class SharedFeeds:
    """The live reads of a process: those of a watcher group are vouched for as far as all its cells are."""

    def __init__(self, feeds: Feeds, group: str = DEFAULT_GROUP) -> None:
        self._feeds = feeds
        self._group = group
        self._shares: dict[FeedsShare, Version] = {}

    def share(self) -> "FeedsShare":
        share = FeedsShare(self, self._feeds)
        self._shares[share] = 0
        return share

    def drop(self, share: "FeedsShare") -> None:
        self._shares.pop(share, None)

    def note(self, share: "FeedsShare", vouched: Version) -> None:
        if share not in self._shares:
            return
        self._shares[share] = vouched
        if all(self._shares.values()):
            self._feeds.vouch(min(self._shares.values()), self._group)
        elif not vouched:
            self._feeds.void()


class FeedsShare:
    """What one cell's channel tells the live reads."""

    def __init__(self, of: SharedFeeds, feeds: Feeds) -> None:
        self._of = of
        self._feeds = feeds

    def hear(self, at: Version) -> None:
        self._feeds.hear(at)

    def changed_group(self, group: bytes) -> None:
        self._feeds.changed_group(group)

    def changed_groups(self, beginning: bytes) -> None:
        self._feeds.changed_groups(beginning)

    def all_changed(self) -> None:
        self._feeds.all_changed()

    @property
    def idle(self) -> bool:
        return self._feeds.idle

    def changed(self, name: bytes) -> None:
        """Those who watch a document do not know in which cell it lies."""
        prefix, _, rest = name.partition(b":{")
        self._feeds.changed(prefix + b":" + rest.partition(b"}:")[2])

    def vouch(self, watermark: Version, group: str = DEFAULT_GROUP) -> None:
        self._of.note(self, watermark)

    def void(self) -> None:
        self._of.note(self, 0)
