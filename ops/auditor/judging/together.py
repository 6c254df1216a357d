"""The judgement of documents that came in one answer, which states no version for each of them.

Such a document still must be one that MongoDB held, and the answer's bound says how long ago at most. What it may be
is listed: its state when the bound began, and its state after each change since. What is none of those misses
something that could be read before; and what was true only until a change is as old as that change can be read.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from neverstale.ops.auditor.judging.changes import Changes
from neverstale.ops.auditor.judging.judged import Judged, States
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.ops.auditor.judging.told import Told, same
from neverstale.versions import Version

MOST_STATES: Final = 40
"""Reads of MongoDB for one judgement."""

ReadStates: TypeAlias = Callable[[Sequence[Told], Version], Awaitable[States | None]]
"""What MongoDB held at a version of all that some answers are about; `None`: it does not say."""


async def together(
    some: Sequence[Told], until: Version, changes: Changes, timeline: Timeline, read: ReadStates
) -> list[Judged]:
    """All about documents of one collection. `until`: read after all had been answered."""
    moments = [told.asked - told.bound for told in some if told.bound is not None]
    begun = timeline.before(min(moments)) if moments else None
    bounded = [told for told in some if told.bound is not None]
    found = [Judged(told, "undecided") for told in some if told.bound is None]
    names = {told.question.canonical for told in bounded}
    known = await changes.between(names, begun.version, until) if begun is not None else None
    versions = {version for version, _ in known or ()}
    if begun is None or known is None or len(versions) >= MOST_STATES:
        return found + [Judged(told, "undecided") for told in bounded]
    by_key: dict[str, list[Version]] = {name: [] for name in names}
    for version, key in known:
        by_key[key].append(version)
    doubts = [_Doubt(told, by_key[told.question.canonical]) for told in bounded]
    for version in sorted(versions, reverse=True):
        doubts = await _settle(doubts, version, timeline, read, found)
    left = await _settle(doubts, begun.version, timeline, read, found, whole=True)
    return found + [Judged(one.told, "late", one.told.asked - begun.at, begun.version) for one in left]


@dataclass(frozen=True, slots=True)
class _Doubt:
    told: Told
    changed: Sequence[Version]
    """When its document was changed since the bound began, in order."""


async def _settle(
    doubts: Sequence[_Doubt],
    version: Version,
    timeline: Timeline,
    read: ReadStates,
    found: list[Judged],
    *,
    whole: bool = False,
) -> list[_Doubt]:
    """Add those that show the state at a version to the found ones; returns the others. States are looked at from the
    latest to the earliest: the first one that an answer shows is the youngest that it can be. `whole`: all are looked
    at, not only those that were changed at this version."""
    now = [one for one in doubts if whole or version in one.changed]
    states = await read([one.told for one in now], version) if now else None
    left = [one for one in doubts if not (whole or version in one.changed)]
    for one in now:
        if states is None:
            found.append(Judged(one.told, "undecided"))
        elif same(one.told.shown, states.of(one.told)):
            after = next((changed for changed in one.changed if changed > version), None)
            found.append(_as_old(one.told, after, timeline))
        else:
            left.append(one)
    return left


def _as_old(told: Told, after: Version | None, timeline: Timeline) -> Judged:
    """An answer that was true until a change at this version; `None`: it still is."""
    sample = timeline.first(after) if after is not None else None
    if sample is None or sample.at >= told.asked:
        return Judged(told, "true")
    return Judged(told, "late", told.asked - sample.at, after)
