"""Many live reads of one key, as a process of its own: when each stream is given each state.

    python -m benchmarks.watchers PORT PATH STREAMS

Prints how many streams have their first state; then, for each line `number` that comes in, waits until all of these
have been given the state with that `n`, or `CHANGE_SECONDS` have passed, and prints the monotonic times at which the
first, half, 99 % and all of them were: as many of the four as there are.
"""

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast

_NUMBER: Final = re.compile(rb'"n":(\d+)')
AT_ONCE: Final = 100
OPEN_SECONDS: Final = 90.0
CHANGE_SECONDS: Final = 15.0


class Watcher(asyncio.Protocol):
    """One stream. What it is given is looked at, not parsed: watchers shall cost little beside what is measured."""

    def __init__(self, crowd: "Watchers") -> None:
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(
            b"GET %b HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n" % self._crowd.path
        )

    def data_received(self, data: bytes) -> None:
        for match in _NUMBER.finditer(data):
            self._crowd.saw(int(match[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost()


class Watchers:
    def __init__(self, path: bytes, count: int) -> None:
        self.path = path
        self.count = count
        self._times: dict[int, list[float]] = {}
        self._lost = 0
        self._all = asyncio.Event()

    def saw(self, number: int) -> None:
        times = self._times.setdefault(number, [])
        times.append(time.monotonic())
        if len(times) >= self.count - self._lost:
            self._all.set()

    def lost(self) -> None:
        """A stream has ended: nobody waits for it, but it is not counted as one that was given anything."""
        self._lost += 1
        self._all.set()

    async def until_all(self, number: int, seconds: float) -> list[float]:
        """When each stream was given this state: of all, or of those that were when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self._times.get(number, ())) < self.count - self._lost:
                    self._all.clear()
                    await self._all.wait()
        return sorted(self._times.pop(number, ()))


def moments(times: Sequence[float], count: int) -> list[float]:
    """When the first, half, 99 % and all of so many streams were given a state, ascending; only as far as they
    were."""
    places = (0, count // 2, count * 99 // 100, count - 1)
    return [times[place] for place in places if place < len(times)]


async def main(port: int, path: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    watchers = Watchers(path.encode(), count)
    for first in range(0, count, AT_ONCE):
        opening = (
            loop.create_connection(lambda: Watcher(watchers), "127.0.0.1", port)
            for _ in range(first, min(first + AT_ONCE, count))
        )
        await asyncio.gather(*opening, return_exceptions=True)
    watchers.count = len(await watchers.until_all(0, OPEN_SECONDS))
    print(watchers.count, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        times = await watchers.until_all(int(line), CHANGE_SECONDS)
        print(*moments(times, watchers.count), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
