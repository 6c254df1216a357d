"""The judgement of answers about one source that were asked for at about the same time.

An answer with body B says: this is the state at version v, and I miss no change that was acknowledged more than b
seconds before you asked. It is compared with the state that MongoDB has reached. Nearly always B is that, and all is
well. Otherwise let X be the last version that could be read before the question was asked:

- v >= X: it misses nothing of that time, and must be what MongoDB held at v.
- The state at X is B: neither does it miss anything.
- Else it misses a change. The first sample behind v whose state is not B says since when that could be read: so old
  is the answer at least, and its bound must not be smaller.

States between are found by halving, which takes some ten reads and happens seldom. Nobody is found guilty by chance
or by a slow machine: a sample says that a change could be read by then, and the question was asked after it.

A counter or ranking is no state of one version: it may show a later change and not yet an earlier one. Of those we
can say only that one differs from a state that did not change meanwhile; what differs again and again by the same
has drifted (see `neverstale.ops.auditor.judging.drifting`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from neverstale.errors import NeverstaleError
from neverstale.ops.auditor.judging.changes import Changes
from neverstale.ops.auditor.judging.judged import Judged, States
from neverstale.ops.auditor.judging.timeline import SeenVersion, Timeline
from neverstale.ops.auditor.judging.together import together
from neverstale.ops.auditor.judging.told import Told, same
from neverstale.ops.auditor.judging.truth import Truth
from neverstale.versions import Version

MOST_LATE: Final = 20
"""Of answers that were asked for together. Each takes some ten reads, and what is wrong shows in few."""


class Judge:
    def __init__(self, truth: Truth, timeline: Timeline, changes: Mapping[str, Changes]) -> None:
        """`changes`: by collection."""
        self._truth = truth
        self._timeline = timeline
        self._changes = changes

    async def judge(self, some: Sequence[Told]) -> list[Judged]:
        """All must be about one source."""
        if not some:
            return []
        before = self._timeline.before(min(told.asked for told in some))
        now = await self._states(some, before.version if before is not None else 0)
        if now is None:
            return [Judged(told, "undecided") for told in some]
        found: list[Judged] = []
        rest: list[Told] = []
        for told in some:
            if self._is(told, now):
                found.append(Judged(told, "true"))
            else:
                rest.append(told)
        if rest and before is None:
            return found + [Judged(told, "undecided") for told in rest]
        assert before is not None or not rest
        if rest and before is not None:
            judged = self._figures if rest[0].question.is_figure else self._entries
            found += await judged(rest, before, now)
        return found

    # --- documents and pages

    async def _entries(self, rest: Sequence[Told], before: SeenVersion, now: States) -> list[Judged]:
        found = await self._together([told for told in rest if told.version is None], now)
        young = [told for told in rest if told.version is not None and told.version >= before.version]
        found += [await self._as_it_says(told) for told in young]
        old = [told for told in rest if told.version is not None and told.version < before.version]
        if not old:
            return found
        then = await self._states(old, 0, before.version)
        if then is None:
            return found + [Judged(told, "undecided") for told in old]
        late = [told for told in old if not self._is(told, then)]
        found += [Judged(told, "true") for told in old if self._is(told, then)]
        found += [await self._late(told, before) for told in late[:MOST_LATE]]
        return found + [Judged(told, "undecided") for told in late[MOST_LATE:]]

    async def _together(self, some: Sequence[Told], now: States) -> list[Judged]:
        changes = self._changes.get(some[0].question.source.collection) if some else None
        if changes is None:
            return [Judged(told, "undecided") for told in some]

        async def read(told: Sequence[Told], version: Version) -> States | None:
            return await self._states(told, 0, version)

        return await together(some, now.version, changes, self._timeline, read)

    async def _as_it_says(self, told: Told) -> Judged:
        """Whether MongoDB held that at the version that the answer states."""
        assert told.version is not None
        states = await self._states([told], 0, told.version)
        if states is None:
            return Judged(told, "undecided")
        if self._is(told, states):
            return Judged(told, "true")
        # A collection that does not exist is read at no version of its own; the answer then states an earlier one,
        # which promises less. What shows nothing, straight from MongoDB, is therefore no proof of an untruth.
        if told.source == "mongodb" and told.question.source.is_absence(told.body):
            return Judged(told, "undecided")
        return Judged(told, "untrue", state=states.of(told))

    async def _late(self, told: Told, before: SeenVersion) -> Judged:
        """Since when it misses something, by halving."""
        assert told.version is not None
        samples = self._timeline.beyond(told.version, before)
        low, high = 0, len(samples) - 1
        state: bytes | None = None
        while low < high:
            middle = (low + high) // 2
            states = await self._states([told], 0, samples[middle].version)
            if states is None or self._is(told, states):
                low = middle + 1  # a state that is gone is no evidence
            else:
                high = middle
        first = samples[high]
        states = await self._states([told], 0, first.version)
        if states is not None:
            state = states.of(told)
        return Judged(told, "late", told.asked - first.at, first.version, state)

    # --- counters and rankings

    async def _figures(self, rest: Sequence[Told], before: SeenVersion, now: States) -> list[Judged]:
        found: list[Judged] = []
        for told in rest:
            promised = self._timeline.before(told.asked - told.bound) if told.bound is not None else None
            then = await self._states([told], 0, promised.version) if promised is not None else None
            if then is None or promised is None or not same(then.of(told), now.of(told)):
                found.append(Judged(told, "undecided"))
            else:
                age = told.asked - promised.at
                found.append(Judged(told, "differs", age, promised.version, now.of(told)))
        return found

    async def _states(self, some: Sequence[Told], at_least: Version, at: Version = 0) -> States | None:
        """What MongoDB holds of all that these are about; `None`: it does not say."""
        source = some[0].question.source
        keys = list({told.question.canonical: told.question.key for told in some}.values())
        states: dict[str, bytes] = {}
        version = 0
        try:
            for start in range(0, len(keys), source.keys_a_read):
                few = keys[start : start + source.keys_a_read]
                asked = self._truth.at(source, few, at) if at else self._truth.now(source, few, at_least)
                snapshot = await asked
                states |= snapshot.bodies
                version = max(version, snapshot.version)
        except NeverstaleError:
            return None
        return States(states, version)

    @staticmethod
    def _is(told: Told, states: States) -> bool:
        return same(told.shown, states.of(told))
