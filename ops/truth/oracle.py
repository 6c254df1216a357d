"""The oracle: was every answer right? It knows what was written and what was read, and nothing of neverstale.

**What is noted.** Writers of one key take turns, so its revisions 1, 2, 3, ... are in the order in which MongoDB
took them; the document shows its revision in a field. `begun` is noted before a write is sent, `acknowledged`
after the majority's acknowledgement has arrived. A write whose outcome nobody knows stays begun. A reader notes
when it asked (`start`), when it had the answer (`end`), and what the answer said. All times come from
`time.monotonic()`, which on one machine is one clock for all processes (Linux: CLOCK_MONOTONIC).

**When is a bound violated?** An answer with bound b promises: every write acknowledged more than b before the
answer *was made* is in it. Neither moment is known exactly, but the acknowledgement came no later than the writer
noted it, and the answer was made no earlier than the reader asked for it. So

    acknowledged < start - b   ==>   the write was acknowledged more than b before the answer was made,

and an answer that misses such a write has broken its word without doubt. Using `end` would accuse answers that
were right when they were made and arrived late. What lies in between, `acknowledged` from `start - b` to `end - b`,
nobody can decide; such answers are counted as undecided, so that one sees how little escapes the judgement.

**Doubt speaks for the answer.** A read may see any write that was begun before it ended. An absence is explained
by the latest removal that was begun by then.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Final, NamedTuple

from neverstale.versions import Version

ABSENT: Final = -1
"""The revision that a read notes when it was told that there is no such document."""
NOBODY: Final = 0xFFFF_FFFF
"""The key that a read notes when the answer named none that we know."""
EXAMPLES: Final = 5


class Read(NamedTuple):
    """One key's answer. Keys are numbers that writers and readers agree on."""

    key: int
    answered: int
    """The key that the answer itself names."""
    reader: int
    """Reads of one reader follow one another."""
    revision: int
    """`ABSENT`, 0 for documents that nobody writes, or the document's."""
    start: float
    end: float
    bound: float
    """Seconds; NaN: the answer did not state one."""
    version: Version


@dataclass
class Tally:
    """`wrong` of `checked`, with sentences about the first few."""

    wrong: int = 0
    checked: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, is_wrong: bool, *words: object) -> None:
        self.checked += 1
        if is_wrong:
            self.wrong += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(" ".join(map(str, words)))

    @property
    def at_most(self) -> float:
        """With none wrong: the share of wrong ones is at most this, at 95 % (the rule of three)."""
        return 3 / self.checked if self.checked else 1.0


class History:
    """One key's writes. The lists of acknowledgements ascend, because the writers took turns."""

    __slots__ = ("acknowledged_at", "acknowledged_revisions", "begun_at", "removals")

    def __init__(self) -> None:
        self.begun_at = array("d")
        self.removals = array("l")
        self.acknowledged_at = array("d")
        self.acknowledged_revisions = array("l")

    def due(self, before: float) -> int:
        """The last revision acknowledged before a moment; 0 if there was none."""
        place = bisect_left(self.acknowledged_at, before)
        return self.acknowledged_revisions[place - 1] if place else 0

    @property
    def spans(self) -> list[tuple[float, float]]:
        """(begun, acknowledged) of each acknowledged write."""
        pairs = zip(self.acknowledged_revisions, self.acknowledged_at, strict=True)
        return [(self.begun_at[revision - 1], at) for revision, at in pairs]

    def latest_begun(self, before: float) -> int:
        return bisect_left(self.begun_at, before)

    def latest_removal(self, before: float) -> int:
        """The last removal begun before a moment; 0: the key had never been there."""
        place = bisect_left(self.removals, self.latest_begun(before) + 1)
        return self.removals[place - 1] if place else 0


_UNWRITTEN = History()


class Writes:
    """What was written, by key."""

    def __init__(self) -> None:
        self._keys: dict[int, History] = {}
        self.acknowledged_count = 0
        self.last_version: Version = 0
        """No acknowledged write has a later version."""

    def begin(self, key: int, at: float, *, removal: bool = False) -> int:
        """A write is about to be sent; returns the revision that it gives to the document."""
        writes = self._keys.setdefault(key, History())
        writes.begun_at.append(at)
        revision = len(writes.begun_at)
        if removal:
            writes.removals.append(revision)
        return revision

    def acknowledge(self, key: int, revision: int, at: float, version: Version) -> None:
        """The majority has it. `version` is the session's operation time with the acknowledgement.

        Whoever wrote a key out of turn is told so by a `ValueError`: what he wrote could accuse a right answer.
        """
        writes = self._keys[key]
        if writes.acknowledged_revisions and revision <= writes.acknowledged_revisions[-1]:
            raise ValueError(f"revision {revision} of key {key} was acknowledged out of turn")
        writes.acknowledged_at.append(at)
        writes.acknowledged_revisions.append(revision)
        self.acknowledged_count += 1
        self.last_version = max(self.last_version, version)

    def of(self, key: int) -> History:
        return self._keys.get(key, _UNWRITTEN)


@dataclass
class Judgement:
    """What the oracle found about reads. The first three tallies must stay without wrong ones."""

    violated_bounds: Tally = field(default_factory=Tally)
    """Of all answers that stated a bound."""
    foreign: Tally = field(default_factory=Tally)
    """Answers that name another key than was asked for."""
    unwritten: Tally = field(default_factory=Tally)
    """Answers with a revision that nobody had begun to write."""
    undecided_bounds: int = 0
    unknown_bounds: int = 0
    behind: Tally = field(default_factory=Tally)
    """Answers that missed a write acknowledged before they were asked for: allowed, within their bound."""
    backwards: Tally = field(default_factory=Tally)
    """A reader saw an older revision of a key than before: allowed, unless it asked for more."""
    staleness: dict[tuple[int, int], float] = field(default_factory=dict)
    """(key, revision) of each write that some read missed: seconds from its acknowledgement to the last such read."""

    @property
    def clean(self) -> bool:
        return not (self.violated_bounds.wrong or self.foreign.wrong or self.unwritten.wrong)


def judge(writes: Writes, reads: Iterable[Read]) -> Judgement:
    """Check every read against what was written."""
    verdict = Judgement()
    last_seen: dict[tuple[int, int], int] = {}
    for read in reads:
        verdict.foreign.note(read.answered != read.key, "asked", read.key, "answered", read.answered)
        if read.answered != read.key:
            continue  # it says nothing about the key that was asked for
        _judge_revision(verdict, writes.of(read.key), read)
        _judge_order(verdict, last_seen, read)
    return verdict


def _judge_revision(verdict: Judgement, writes: History, read: Read) -> None:
    seen = read.revision if read.revision != ABSENT else writes.latest_removal(read.end)
    verdict.unwritten.note(seen > writes.latest_begun(read.end), read)
    due = writes.due(read.start)
    verdict.behind.note(seen < due, read)
    if seen < due:
        _note_staleness(verdict, writes, read, seen)
    if isnan(read.bound):
        verdict.unknown_bounds += 1
        return
    promised = writes.due(read.start - read.bound)
    verdict.violated_bounds.note(seen < promised, read, "misses", promised)
    verdict.undecided_bounds += promised <= seen < writes.due(read.end - read.bound)


def _note_staleness(verdict: Judgement, writes: History, read: Read, seen: int) -> None:
    missed = bisect_left(writes.acknowledged_revisions, seen + 1)
    for place in range(missed, bisect_left(writes.acknowledged_at, read.start)):
        write = read.key, writes.acknowledged_revisions[place]
        staleness = read.start - writes.acknowledged_at[place]
        verdict.staleness[write] = max(staleness, verdict.staleness.get(write, 0.0))


def _judge_order(verdict: Judgement, last_seen: dict[tuple[int, int], int], read: Read) -> None:
    if read.revision == ABSENT:
        return
    place = read.reader, read.key
    before = last_seen.get(place, 0)
    verdict.backwards.note(read.revision < before, read, "after", before)
    last_seen[place] = max(before, read.revision)


def compare(stored: Mapping[str, Any], answered: Mapping[str, Any], keys: Iterable[str]) -> Tally:
    """After convergence: is every answer what MongoDB holds? A key that is in neither mapping is absent in both."""
    tally = Tally()
    for key in keys:
        tally.note(stored.get(key) != answered.get(key), key, stored.get(key), "was answered with", answered.get(key))
    return tally
