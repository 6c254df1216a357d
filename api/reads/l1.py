"""L1: answers in the memory of the process, by request line, each the tail of a response.

Redis says what is stale when it is asked; here somebody must have said so before. Consumers announce every change,
and `Channel` hands that on. Two things make it safe:

- **Nothing is answered that was not vouched for**: the watermark of L1 is what the channel has marked, and without
  one L1 is empty and stays so.
- **The place is held before the read.** A reader says which keys, or groups of pages, it will read from Redis, and an
  announcement that comes in between spoils the reading of that key. Otherwise a value that was read before a change
  was applied could be kept after the change was announced, for good.
"""

from collections.abc import Callable, Collection, Iterable
from time import monotonic

from neverstale.api.freshness.vouched import Vouched
from neverstale.api.reads.recently_used import Recent
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.versions import Version

MOST_PAGES = 65_536
"""Pages that are kept at once: their lines are noted by group, beside the answers."""


class Reading:
    """Keys, or groups of pages, that are being read from Redis."""

    __slots__ = ("_spoilt", "_spoilt_keys", "keys")

    def __init__(self, keys: Collection[bytes], spoilt: bool) -> None:
        self.keys = keys
        self._spoilt = spoilt
        self._spoilt_keys: set[bytes] = set()

    def good(self, key: bytes) -> bool:
        return not self._spoilt and key not in self._spoilt_keys

    def spoil(self, key: bytes) -> None:
        if key in self.keys:
            self._spoilt_keys.add(key)

    def spoil_beginning(self, beginning: bytes) -> None:
        self._spoilt_keys.update(key for key in self.keys if key.startswith(beginning))

    def spoil_all(self) -> None:
        self._spoilt = True


class L1:
    """`limit_bytes` 0: keeps nothing. Nothing stays longer than `life_seconds`."""

    def __init__(
        self,
        limit_bytes: int,
        life_seconds: float,
        clock: Callable[[], float] = monotonic,
        groups: Collection[str] = (DEFAULT_GROUP,),
    ) -> None:
        """`groups`: the watcher groups whose changes are announced."""
        self._groups = groups
        self._vouched = Vouched()
        self.answers = Recent(limit_bytes)
        self._keeps = limit_bytes > 0
        self._life_seconds = life_seconds
        self._clock = clock
        self._ends = clock() + life_seconds
        self._readings: set[Reading] = set()
        self._pages: dict[bytes, set[bytes]] = {}
        """Group -> lines under which its pages may be kept."""
        self._page_count = 0

    @property
    def watermark(self) -> Version:
        """No answer here misses a change up to this version; 0: nothing vouches for some."""
        return self._vouched.watermark(self._groups)

    def watermark_of(self, group: str) -> Version:
        """No answer of this watcher group misses a change up to this version; 0: nothing vouches for them."""
        return self._vouched.of(group)

    @property
    def idle(self) -> bool:
        """Nothing is kept, and nothing is being read."""
        return not (self._readings or self.answers)

    def begin(self, keys: Collection[bytes], group: str = DEFAULT_GROUP) -> Reading:
        """Holds the places of these keys; comes before the read is issued. `group`: the watcher group of all."""
        reading = Reading(keys, spoilt=not self.watermark_of(group))
        self._readings.add(reading)
        return reading

    def end(self, reading: Reading) -> None:
        self._readings.discard(reading)

    def keep(self, reading: Reading, key: bytes, line: bytes, tail: bytes) -> None:
        """Keeps what was read, unless something was announced for it since `begin`; comes before `end`."""
        if reading.good(key) and reading in self._readings:
            self.answers.put(line, tail)

    def keep_page(self, reading: Reading, group: bytes, line: bytes, tail: bytes) -> None:
        """Keeps a page likewise; announcements name its group."""
        if not reading.good(group) or reading not in self._readings:
            return
        if self._page_count >= MOST_PAGES:
            self._drop_pages(list(self._pages))
        lines = self._pages.setdefault(group, set())
        self._page_count += line not in lines
        lines.add(line)
        self.answers.put(line, tail)

    def changed(self, key: bytes, lines: Iterable[bytes]) -> None:
        """A change of this entry was announced; `lines`: all under which its answers may be kept."""
        for reading in self._readings:
            reading.spoil(key)
        for line in lines:
            self.answers.drop(line)

    def changed_group(self, group: bytes) -> None:
        """Pages of this group may have changed."""
        for reading in self._readings:
            reading.spoil(group)
        if group in self._pages:
            self._drop_pages([group])

    def changed_groups(self, beginning: bytes) -> None:
        """Pages of all groups may have changed whose names begin like this."""
        for reading in self._readings:
            reading.spoil_beginning(beginning)
        self._drop_pages([group for group in self._pages if group.startswith(beginning)])

    def _drop_pages(self, groups: Iterable[bytes]) -> None:
        for group in groups:
            lines = self._pages.pop(group)
            self._page_count -= len(lines)
            for line in lines:
                self.answers.drop(line)

    def clear(self) -> None:
        """Everything may have changed."""
        for reading in self._readings:
            reading.spoil_all()
        self._forget()

    def vouch(self, watermark: Version, group: str = DEFAULT_GROUP) -> None:
        """All changes of a watcher group up to here have been announced. Comes after they were."""
        if not self._keeps:
            return
        self._vouched.vouch(watermark, group)
        if self._clock() >= self._ends:
            self._ends = self._clock() + self._life_seconds
            self._forget()

    def _forget(self) -> None:
        self.answers.clear()
        self._pages.clear()
        self._page_count = 0

    def void(self) -> None:
        """Announcements may have been missed."""
        self._vouched.void()
        self.clear()
