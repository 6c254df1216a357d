"""Reads of MongoDB that fill nothing: the caller wants MongoDB, or Redis cannot be asked."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from api.asks import Ask, fail_all
from api.loads import Loads
from api.marks import Marks
from api.source import is_absence
from neverstale.errors import Refused
from neverstale.tasks import at_once
from neverstale.versions import Version


async def read_directly(asks: Iterable[Ask], loads: Loads, marks: Marks) -> None:
    """Answer all, in as few reads as their demands allow.

    No answer is older than the newest mark, although a lagging member may give it. A version that only a caller
    names may be nonsense, which MongoDB refuses: such an ask is read alone, so that it fails alone.
    """
    asks = list(asks)
    known = max(marks.newest, *(ask.stale_since for ask in asks)) if asks else 0
    groups: defaultdict[tuple[Version, bool], list[Ask]] = defaultdict(list)
    for ask in asks:
        groups[max(ask.wish.min_version, known), _is_known(ask, loads)].append(ask)
    await at_once(
        *(
            _read(group, version, loads, marks, alone=version > known, known=known_keys)
            for (version, known_keys), group in groups.items()
        )
    )


def _is_known(ask: Ask, loads: Loads) -> bool:
    """Whether there was a document; so it is taken for what is never cached, of which nobody keeps account."""
    return not ask.entry_key or ask.holds_document or loads.doorkeeper.knows(ask.entry_key)


async def _read(
    asks: Sequence[Ask], at_least: Version, loads: Loads, marks: Marks, *, alone: bool, known: bool
) -> None:
    try:
        snapshot = await loads.load(asks[0].source, [ask.key for ask in asks], at_least, alone=alone, known=known)
    except Exception as error:
        if len(asks) > 1 and isinstance(error, Refused) and not error.lasts:
            # It belongs to one of the keys: the others shall not share it.
            for some in (asks[: len(asks) // 2], asks[len(asks) // 2 :]):
                await _read(some, at_least, loads, marks, alone=alone, known=known)
            return
        fail_all(asks, error, marks)
    else:
        for ask in asks:
            if not is_absence(ask.source, snapshot.bodies.get(ask.canonical)):
                loads.doorkeeper.met(ask.entry_key)
            ask.settle_from(snapshot)
