"""Watchers: clients of live reads that come back with the last id when their stream ends, and note what they see."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from math import nan
from typing import Final

from neverstale.ops.truth.oracle import ABSENT, Read
from tests.faults.rig.load import Load
from tests.faults.rig.pipeline import RESOURCE
from tests.support.events import Told, parsed

BACK: Final = "went back in time"
LAST: Final = "lack the last state"
LATE_SECONDS: Final = 0.25
"""What is read may have been written so long before: the client is busy, too."""
ARRIVES_SECONDS: Final = 10.0
SLOW_SECONDS: Final = 1.0


@dataclass
class LiveWatcher:
    """Watches one key through one API after the other."""

    number: int
    key: int
    load: Load
    urls: list[str]
    slow: bool = False
    """Reads only now and then, as long as writers write."""
    revision: int | None = None
    last_id: str = ""
    streams: int = 0
    reads: list[Read] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    turns: random.Random = field(default_factory=random.Random)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
                await self._watch(self.turns.choice(self.urls))
            await asyncio.sleep(0.05)

    async def _watch(self, url: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        try:
            last = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
            accept = "Host: x\r\nAccept: text/event-stream\r\n"
            writer.write(f"GET /v1/{RESOURCE}/{self.key} HTTP/1.1\r\n{accept}{last}\r\n".encode())
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                return
            self.streams += 1
            rest = b""
            while size := int(await reader.readline(), 16):
                rest += await reader.readexactly(size)
                await reader.readexactly(2)
                *blocks, rest = rest.split(b"\n\n")
                for block in blocks:
                    self._take(parsed(block))
                if self.slow and self.load.gate.is_set():
                    await asyncio.sleep(SLOW_SECONDS)
        finally:
            writer.close()

    def _take(self, told: Told) -> None:
        if told.event in ("state", "absent"):
            revision = told.data["rev"] if told.event == "state" else ABSENT
            if told.id < self.last_id or (
                ABSENT not in (revision, self.revision) and revision < (self.revision or 0)
            ):
                self.back.append(f"{self.number}: {self.revision} at {self.last_id}, then {revision} at {told.id}")
            self.revision, self.last_id = revision, told.id
        if self.revision is None or told.bound is None or self.slow:
            return
        bound = nan if told.bound == "unknown" else float(told.bound)
        now = time.monotonic()
        start, version = now - LATE_SECONDS, int(self.last_id, 16)
        self.reads.append(Read(self.key, self.key, -2 - self.number, self.revision, start, now, bound, version))
