"""Reads of MongoDB that fill nothing: the caller wants MongoDB, or Redis cannot be asked."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from api.asks import Ask, fail_all
from api.loads import Loads
from api.marks import Marks
from api.tasks import at_once
from neverstale.versions import Version


async def read_directly(asks: Iterable[Ask], loads: Loads, marks: Marks) -> None:
    """Answer all, in as few reads as their demands allow.

    No answer is older than the newest mark, although a lagging member may give it. A version that only a caller
    names may be nonsense, which MongoDB refuses: such an ask is read alone, so that it fails alone.
    """
    asks = list(asks)
    known = max(marks.newest, *(ask.stale_since for ask in asks)) if asks else 0
    groups: defaultdict[Version, list[Ask]] = defaultdict(list)
    for ask in asks:
        groups[max(ask.wish.min_version, known)].append(ask)
    await at_once(*(_read(group, version, loads, marks, alone=version > known) for version, group in groups.items()))


async def _read(asks: Sequence[Ask], at_least: Version, loads: Loads, marks: Marks, *, alone: bool) -> None:
    try:
        snapshot = await loads.load(asks[0].source, [ask.key for ask in asks], at_least, alone=alone)
    except Exception as error:
        fail_all(asks, error, marks)
    else:
        for ask in asks:
            ask.settle_from(snapshot)
