"""Counters and rankings that have drifted: what differs by the same again and again, from states that stood still.

Each question is undecided while its group changes, so one difference proves nothing: the figure may show a change of
the group and not yet its counterpart. A difference that is the same in several questions, each with MongoDB's state
unchanged around it for as long as the answer's bound, is none that a change under way explains.
"""

import json
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Final

from neverstale.ops.auditor.judging.judged import Judged
from neverstale.ops.auditor.judging.questions import AuditQuestion

TIMES: Final = 7
"""A difference is believed after so many questions."""
TRIES: Final = 40
"""Then a group that never stands still is left undecided."""
PAUSE_SECONDS: Final = 0.3
MOST: Final = 200
"""Groups that are in doubt at once."""


@dataclass(slots=True)
class _Doubt:
    first: Judged
    signature: Hashable
    asked_at: float
    times: int = 1
    tries: int = 1


class Drifting:
    """The figures in doubt."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doubts: dict[tuple[str, str], _Doubt] = {}

    def __len__(self) -> int:
        return len(self._doubts)

    def due(self) -> list[AuditQuestion]:
        """What should be asked again now."""
        now = self._clock()
        due = [doubt for doubt in self._doubts.values() if now - doubt.asked_at >= PAUSE_SECONDS]
        for doubt in due:
            doubt.asked_at = now
        return [doubt.first.told.question for doubt in due]

    def take(self, found: Judged) -> Judged | None:
        """A judgement of a figure; returns the one that counts, or `None` while it is in doubt."""
        name = found.told.question.name
        doubt = self._doubts.get(name)
        if found.verdict == "true" or (doubt is None and found.verdict == "undecided"):
            self._doubts.pop(name, None)
            return found
        if doubt is None:
            if len(self._doubts) >= MOST:
                return replace(found, verdict="undecided")
            self._doubts[name] = _Doubt(found, signature(found), self._clock())
            return None
        doubt.tries += 1
        if found.verdict == "differs":
            this = signature(found)
            if this == doubt.signature:
                doubt.times += 1
            else:
                doubt.first, doubt.signature, doubt.times = found, this, 1
        if doubt.times >= TIMES:
            del self._doubts[name]
            since = doubt.first
            return replace(found, verdict="late", age=found.told.asked - since.told.asked + since.age)
        if doubt.tries >= TRIES:
            del self._doubts[name]
            return replace(found, verdict="undecided")
        return None


def signature(found: Judged) -> Hashable:
    """By what an answer differs from MongoDB."""
    told, held = _figures(found.told.body), _figures(found.state)
    return tuple(sorted((name, _less(told.get(name), held.get(name))) for name in told.keys() | held.keys()))


def _less(one: Any, other: Any) -> str:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return f"{one - other:.6g}"
    return f"{one}/{other}" if one != other else "0"


def _figures(body: bytes | None) -> dict[str, Any]:
    """What a counter or ranking says, by name, without what follows from the rest."""
    if body is None:
        return {}
    told = json.loads(body)
    if "items" in told:
        return {json.dumps(item["key"], sort_keys=True): item["score"] for item in told["items"]}
    return {"count": told.get("count"), **told.get("sums", {})}
