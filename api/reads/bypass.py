"""Reads of MongoDB that fill nothing: the caller wants MongoDB, or Redis cannot be asked.

Whoever asks for a key that is being read joins that read, if it will do: any that has not been issued yet, and one
that has, unless the request insists on something younger. Then it waits until that read has come back, or a few
milliseconds, and all that wait share the next one. So a key that everybody wants to have read now is read once at a
time, and nobody who insists is given a state from before the request.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from neverstale.api.freshness.bound import Bounds
from neverstale.api.reads.answer import DemandRefused
from neverstale.api.reads.ask import Ask, fail_all
from neverstale.api.reads.bulkhead import LaneName, Loads, WaitingRead
from neverstale.api.reads.source import has_something
from neverstale.errors import Overloaded, Refused
from neverstale.mongodb.loader import Snapshot
from neverstale.role.tasks import Tasks, at_once
from neverstale.settings import Demands
from neverstale.versions import Version

SHARE_SECONDS: Final = 0.005
"""Who came too late for a read that is under way waits so long, at most, before the next one leaves."""

_Name: TypeAlias = tuple[str, str, Version]
"""Source and key; and a version that only a caller names, else 0: it may be nonsense, and is shared with nobody who
names another."""
Landed = Callable[[Ask, Snapshot], None]


@dataclass(slots=True, eq=False)
class _Reading:
    """A read on its way, and everybody who waits for it."""

    read: WaitingRead
    names: Sequence[_Name]
    asks: list[Ask]
    late: list[Ask] = field(default_factory=list)
    """They came when it had been issued, and need a younger one."""

    def join(self, ask: Ask, at_least: Version) -> None:
        """Lets a newcomer wait for it, or for the next."""
        if not self.read.issued:
            self.read.at_least = max(self.read.at_least, at_least)
            self.asks.append(ask)
        elif ask.wish.insists or ask.needs > self.read.at_least:
            self.late.append(ask)
        else:
            ask.collapsed = True
            self.asks.append(ask)


class Direct:
    """The reads of one process through one bulkhead. `landed` is told of every ask what was read for it."""

    def __init__(
        self,
        loads: Loads,
        bounds: Bounds,
        demands: Demands,
        tasks: Tasks,
        landed: Landed = lambda ask, snapshot: None,
    ) -> None:
        self._loads = loads
        self._bounds = bounds
        self._demands = demands
        self._tasks = tasks
        self._landed = landed
        self._readings: dict[_Name, _Reading] = {}

    async def read(self, asks: Iterable[Ask]) -> None:
        """Answers all of one source, in as few reads as their demands allow; those that join a read of somebody else
        are answered with it.

        No answer is older than the newest mark, although a lagging member may give it. A version that only a caller
        names may be nonsense, which MongoDB refuses: it is read beside others of its kind, and fails alone.
        """
        asks = [ask for ask in asks if not self._refused(ask)]
        known = max(self._bounds.newest, *(ask.stale_since for ask in asks)) if asks else 0
        groups: defaultdict[tuple[Version, LaneName], list[Ask]] = defaultdict(list)
        for ask in asks:
            ask.collapsed = False
            named = ask.wish.min_version if ask.wish.min_version > known else 0
            reading = self._readings.get(_name(ask, named))
            if reading is None:
                groups[named, self._lane(ask)].append(ask)
                continue
            reading.join(ask, max(named, known))
            if reading.late == [ask]:
                asyncio.get_running_loop().call_later(SHARE_SECONDS, self._leave, reading)
        await at_once(
            *(self._begin(group, max(named, known), lane, named) for (named, lane), group in groups.items())
        )

    def _refused(self, ask: Ask) -> bool:
        refused = self._demands == "none" and ask.how == "request" and not ask.wish.current
        if refused:
            ask.refuse(DemandRefused("MongoDB is read for nobody's demand"))
        return refused

    def _lane(self, ask: Ask) -> LaneName:
        # Of what is never cached nobody keeps account, so it is taken for known.
        if ask.entry_key and not (ask.holds_document or self._loads.doorkeeper.knows(ask.entry_key)):
            return "unknown"
        return "demanded" if ask.is_demanded else "known"

    async def _begin(self, asks: list[Ask], at_least: Version, lane: LaneName, named: Version) -> None:
        try:
            keys = [ask.key for ask in asks]
            read = self._loads.begin(asks[0].source, keys, at_least, named=named > 0, lane=lane)
        except Overloaded as error:
            fail_all(asks, error, self._bounds)
            return
        names = list(dict.fromkeys(_name(ask, named) for ask in asks))
        reading = _Reading(read, names, asks)
        self._readings.update(dict.fromkeys(names, reading))
        halves: list[list[Ask]] = []
        try:
            snapshot = await read.answer
        except BaseException as error:
            if len(names) > 1 and isinstance(error, Refused) and not error.lasts:
                # It belongs to one of the keys: the others shall not share it.
                first = {name[1] for name in names[: len(names) // 2]}
                halves = [[ask for ask in reading.asks if (ask.canonical in first) is it] for it in (True, False)]
            else:
                fail_all(reading.asks, error, self._bounds)
            if not isinstance(error, Exception):
                fail_all(reading.late, error, self._bounds)
                raise
        else:
            self._settle(reading, snapshot)
        finally:
            self._leave(reading)
        for some in halves:
            await self._begin(some, read.at_least, lane, named)

    def _settle(self, reading: _Reading, snapshot: Snapshot) -> None:
        for ask in reading.asks:
            if has_something(ask.source, snapshot, ask.canonical):
                self._loads.doorkeeper.met(ask.entry_key)
            if ask.take_snapshot(snapshot, self._bounds.bound):
                self._landed(ask, snapshot)
            else:
                reading.late.append(ask)

    def _leave(self, reading: _Reading) -> None:
        """Lets nobody join any more; those who came too late have one of their own."""
        for name in reading.names:
            if self._readings.get(name) is reading:
                del self._readings[name]
        late, reading.late = [ask for ask in reading.late if not ask.done()], []
        if late:
            self._tasks.start(self.read(late), f"read-{late[0].source.name}")


def _name(ask: Ask, named: Version) -> _Name:
    return ask.source.name, ask.canonical, named
