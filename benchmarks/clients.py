"""Clients beside `wrk`: a closed loop, which asks again when it is answered, and an open loop, whose requests are due
at their own times, whatever the answers do. Latency counts from the time at which a request was due.

    python -m benchmarks.clients PORT [--seconds 3] [--rate 40000]

With a rate it is the open loop. Prints JSON.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from statistics import quantiles
from typing import Any, Final, cast

import uvloop

from benchmarks.serving import CONNECTIONS, DOCUMENTS
from neverstale.ops.stack.ports import LOOPBACK

ANSWER: Final = b"HTTP/1.1 200 OK"
PATIENCE_SECONDS: Final = 30.0


class Connection(asyncio.Protocol):
    """Notes how long after its due time each request was answered, in seconds."""

    def __init__(self, latencies: list[float], answered: Callable[["Connection"], None]) -> None:
        self._latencies = latencies
        self._answered = answered
        self._due: deque[float] = deque()
        self._before = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def ask(self, request: bytes, due: float) -> None:
        self._due.append(due)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._before + data
        for _ in range(data.count(ANSWER)):
            self._latencies.append(time.perf_counter() - self._due.popleft())
            self._answered(self)
        self._before = data[1 - len(ANSWER) :]  # an answer's first line may come in two parts


def requests() -> Iterator[bytes]:
    return itertools.cycle(
        [f"GET /v1/items/item-{n:04} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode() for n in range(DOCUMENTS)]
    )


async def _connect(port: int, latencies: list[float], answered: Callable[[Connection], None]) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: Connection(latencies, answered), LOOPBACK, port))[1]
        for _ in range(CONNECTIONS)
    ]


async def closed_loop(port: int, seconds: float) -> dict[str, float]:
    latencies: list[float] = []
    following, ends = requests(), time.perf_counter() + seconds

    def ask_again(connection: Connection) -> None:
        if (now := time.perf_counter()) < ends:
            connection.ask(next(following), now)

    for connection in await _connect(port, latencies, ask_again):
        ask_again(connection)
    await asyncio.sleep(seconds + 0.1)
    return _figures(latencies, seconds)


async def open_loop(port: int, seconds: float, rate: float) -> dict[str, float]:
    latencies: list[float] = []
    connections = itertools.cycle(await _connect(port, latencies, lambda _: None))
    following, count, sent = requests(), int(rate * seconds), 0
    begun = time.perf_counter()
    while len(latencies) < count and time.perf_counter() < begun + seconds + PATIENCE_SECONDS:
        now = time.perf_counter()
        while sent < count and (due := begun + sent / rate) <= now:
            next(connections).ask(next(following), due)
            sent += 1
        await asyncio.sleep(0)
    return {"offered_per_second": rate, **_figures(latencies, time.perf_counter() - begun)}


def _figures(latencies: list[float], seconds: float) -> dict[str, float]:
    cuts = quantiles(latencies, n=100)
    return {"per_second": len(latencies) / seconds, "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__.split("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args(arguments)
    work: Any = (
        closed_loop(given.port, given.seconds)
        if given.rate is None
        else open_loop(given.port, given.seconds, given.rate)
    )
    print(json.dumps(uvloop.run(work)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
