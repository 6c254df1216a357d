"""Many live reads of one key, as a process of its own: when each stream is given each state.

    python -m benchmarks.watchers PORT PATH STREAMS

Prints `ready` when all have their first state; then, for each line `number` that comes in, waits until all have been
given the state with that `n`, and prints the monotonic times at which the first, half, 99 % and all of them were.
"""

import asyncio
import re
import sys
import time
from typing import Final, cast

_NUMBER: Final = re.compile(rb'"n":(\d+)')
AT_ONCE: Final = 100


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


class Watchers:
    def __init__(self, path: bytes, count: int) -> None:
        self.path = path
        self.count = count
        self._times: dict[int, list[float]] = {}
        self._all = asyncio.Event()

    def saw(self, number: int) -> None:
        times = self._times.setdefault(number, [])
        times.append(time.monotonic())
        if len(times) >= self.count:
            self._all.set()

    async def until_all(self, number: int) -> list[float]:
        while len(self._times.get(number, ())) < self.count:
            self._all.clear()
            await self._all.wait()
        return sorted(self._times.pop(number))


async def main(port: int, path: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    watchers = Watchers(path.encode(), count)
    for first in range(0, count, AT_ONCE):
        opening = (
            loop.create_connection(lambda: Watcher(watchers), "127.0.0.1", port)
            for _ in range(first, min(first + AT_ONCE, count))
        )
        await asyncio.gather(*opening)
    await watchers.until_all(0)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        times = await watchers.until_all(int(line))
        places = (0, len(times) // 2, len(times) * 99 // 100, len(times) - 1)
        print(*(times[place] for place in places), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
