"""Writers, readers and the oracle between them.

Writers of different keys work side by side; the writes of one key follow one another, whoever makes them: writers of
the load and the experiment itself take turns. A key whose write has an
unknown outcome is not written again: nobody could tell in which order MongoDB took the two.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any, Final

from pymongo import AsyncMongoClient, UpdateOne
from pymongo.errors import PyMongoError

from neverstale.ops.http_client import Connection, HttpAnswer
from neverstale.ops.truth.oracle import ABSENT, NOBODY, Read, Tally, Writes, judge
from neverstale.versions import from_timestamp
from tests.faults.rig.experiment import FOREIGN, LATE, STALE, Outcome, Turn
from tests.faults.rig.pipeline import RESOURCE, Pipeline

CONVERGE_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 10.0
FINAL_SECONDS: Final = 30.0
"""In which every key must have been answered at the end, however busy the machine is."""
LOAD_SECONDS: Final = 0.05
KEYS_A_READ: Final = 100
UNANSWERED: Final = "unanswered at the end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much load, and on what."""

    keys: int = 500
    writers: int = 4
    readers: int = 4
    writes_per_second: float = 200
    reads_per_second: float = 100
    removals: float = 0.05
    """Share of the writes that delete the document."""
    converge_seconds: float = CONVERGE_SECONDS


@dataclass
class Load:
    """Running load. `gate` is open while writers may write."""

    pipeline: Pipeline
    shape: Shape
    client: AsyncMongoClient[dict[str, Any]]
    urls: Sequence[str]
    """Of the APIs; a reader that finds one broken asks the next."""
    random: random.Random
    writes: Writes = field(default_factory=Writes)
    reads: list[Read] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Requests that were sent and got no whole answer, and after how long."""
    latencies: list[float] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)
    """Keys whose last write has an unknown outcome."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _turns: defaultdict[int, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @property
    def collection(self) -> Any:
        return self.client[self.pipeline.name][RESOURCE]

    async def fill(self) -> None:
        """Insert every key."""
        keys = range(self.shape.keys)
        for key in keys:
            self.writes.begin(key, time.monotonic())
        async with self.client.start_session() as session:
            await self.collection.insert_many([{"_id": key, "rev": 1} for key in keys], session=session)
            version, now = _version(session), time.monotonic()
        for key in keys:
            self.writes.acknowledge(key, 1, now, version)

    async def warm(self) -> None:
        """Have every key in the cache, as far as it takes them."""
        await self._final(range(self.shape.keys), [])

    async def write(self, number: int) -> None:
        """Change keys of one's own until the load stops."""
        mine = range(number, self.shape.keys, self.shape.writers)
        pause = self.shape.writers / self.shape.writes_per_second
        while not self.stopping:
            await self.gate.wait()
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            key = self.random.choice(mine)
            if not self.stopping and self.gate.is_set():
                writing = asyncio.create_task(self.change(key))
                self._under_way.add(writing)
                writing.add_done_callback(self._under_way.discard)
                await writing

    @contextlib.asynccontextmanager
    async def turn(self, keys: Iterable[int]) -> AsyncIterator[None]:
        """Wait until nobody else writes these keys, always in the same order, so that nobody waits for ever."""
        async with contextlib.AsyncExitStack() as turns:
            for key in sorted(set(keys)):
                await turns.enter_async_context(self._turns[key])
            yield

    async def change(self, key: int, *, removal: bool | None = None) -> None:
        """One write to a key, noted before and after; by chance it removes the document."""
        if removal is None:
            removal = self.random.random() < self.shape.removals
        async with self.turn([key]):
            if key in self.unknown:
                return
            revision = self.writes.begin(key, time.monotonic(), removal=removal)
            try:
                async with self.client.start_session() as session:
                    if removal:
                        await self.collection.delete_one({"_id": key}, session=session)
                    else:
                        change = {"$set": {"rev": revision}}
                        await self.collection.update_one({"_id": key}, change, upsert=True, session=session)
                    self.acknowledge(key, revision, session)
            except PyMongoError:
                self.unknown.add(key)

    async def change_together(self, keys: Sequence[int]) -> None:
        """One bulk write; the changes arrive together, too."""
        async with self.turn(keys):
            begun = [(key, self.writes.begin(key, time.monotonic())) for key in keys]
            changes = [UpdateOne({"_id": key}, {"$set": {"rev": revision}}, upsert=True) for key, revision in begun]
            async with self.client.start_session() as session:
                await self.collection.bulk_write(changes, ordered=False, session=session)
                for key, revision in begun:
                    self.acknowledge(key, revision, session)

    def acknowledge(self, key: int, revision: int, session: Any) -> None:
        """The write that this session did last is acknowledged."""
        self.writes.acknowledge(key, revision, time.monotonic(), _version(session))

    async def read(self, number: int) -> None:
        """Ask for keys until the load stops."""
        pause = self.shape.readers / self.shape.reads_per_second
        connection: Connection | None = None
        turn = number
        while not self.stopping:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            key = self.random.randrange(self.shape.keys)
            try:
                if connection is None or not connection.usable:
                    turn += 1
                    connection = await Connection.open(self.urls[turn % len(self.urls)])
            except OSError:
                continue  # nobody listens there: any balancer would ask another
            await self.ask(connection, key, number)
        if connection is not None:
            connection.close()

    async def ask(self, connection: Connection, key: int, reader: int, *headers: str) -> HttpAnswer | None:
        """Ask for one key, with further header lines, and note the answer. Readers have numbers of their own."""
        start = time.monotonic()
        try:
            answer = await connection.get(f"/v1/{RESOURCE}/{key}", ANSWER_SECONDS, *headers)
        except OSError as error:
            self.broken.append(f"after {1000 * (time.monotonic() - start):.1f} ms, {error!r}")
            return None
        end = time.monotonic()
        self.latencies.append(end - start)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.status in (200, 404):
            document = json.loads(answer.body) if answer.status == 200 else None
            self.reads.append(_read(key, document, answer, reader, start, end))
        return answer

    async def pause(self) -> None:
        """Let no more writes begin, and wait for those that have."""
        self.gate.clear()
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def check(self, outcome: Outcome) -> None:
        """Stop writing, wait until all is applied, read every key, and go on writing.

        Afterwards every key is in the cache, as far as it takes them.
        """
        await self.pause()
        converged = await self.pipeline.passed(self.writes.last_version, self.shape.converge_seconds)
        outcome.tally(LATE).note(converged is None, f"not within {self.shape.converge_seconds:g} s")
        final: list[Read] = []
        missing = await self._final(range(self.shape.keys), final)
        verdict = judge(self.writes, final)
        outcome.add(STALE, verdict.behind)
        outcome.add(FOREIGN, verdict.foreign)
        outcome.add(UNANSWERED, Tally(missing, self.shape.keys))
        self.gate.set()

    async def recovered(self, outcome: Outcome, since: float) -> None:
        """Wait until what is written now is applied, and note how long that took `since`."""
        if await self.pipeline.passed(self.writes.last_version, self.shape.converge_seconds) is not None:
            outcome.recovery.append(time.monotonic() - since)

    def judge(self, outcome: Outcome) -> None:
        """Judge everything that was read under load."""
        outcome.take(judge(self.writes, self.reads))
        outcome.count("writes", self.writes.acknowledged_count)
        outcome.count("5xx", sum(count for status, count in self.statuses.items() if status >= 500))
        outcome.count("broken requests", len(self.broken))

    async def _final(self, keys: Iterable[int], into: list[Read]) -> int:
        """Ask for every key, again and again if need be; answers how many got no answer."""
        todo = list(keys)
        deadline = time.monotonic() + FINAL_SECONDS
        while todo and time.monotonic() < deadline:
            some = todo[:KEYS_A_READ]
            with contextlib.suppress(OSError):
                connection = await Connection.open(self.urls[0])
                start = time.monotonic()
                answer = await connection.get(f"/v1/{RESOURCE}?keys={','.join(map(str, some))}", ANSWER_SECONDS)
                connection.close()
                if answer.status == 200:
                    end = time.monotonic()
                    items = json.loads(answer.body)["items"]
                    for key, item in zip(some, items, strict=True):
                        into.append(_read(key, item["value"], answer, -1, start, end))
                    todo = todo[KEYS_A_READ:]
                    continue
            await asyncio.sleep(LOAD_SECONDS)
        return len(todo)


@contextlib.asynccontextmanager
async def under_load(
    pipeline: Pipeline, turn: Turn, outcome: Outcome, mongo_uri: str, urls: Sequence[str], shape: Shape
) -> AsyncIterator[Load]:
    """In here there is load; afterwards it is judged."""
    options: dict[str, Any] = {"w": "majority", "retryWrites": True, "serverSelectionTimeoutMS": 20_000}
    async with AsyncMongoClient[dict[str, Any]](mongo_uri, **options) as client:
        load = Load(pipeline, shape, client, urls, turn.random)
        await load.fill()
        await load.warm()
        load.gate.set()
        async with asyncio.TaskGroup() as group:
            for number in range(shape.writers):
                group.create_task(load.write(number))
            for number in range(shape.readers):
                group.create_task(load.read(number))
            try:
                yield load
                if not turn.has_found(outcome):
                    await load.check(outcome)
            finally:
                load.stopping = True
                load.gate.set()
        load.judge(outcome)


def _read(key: int, document: Any, answer: HttpAnswer, reader: int, start: float, end: float) -> Read:
    bound = answer.headers.get("neverstale-bound", "unknown")
    return Read(
        key=key,
        answered=key if document is None else document.get("_id", NOBODY),
        reader=reader,
        revision=ABSENT if document is None else document["rev"],
        start=start,
        end=end,
        bound=nan if bound == "unknown" else float(bound),
        version=int(answer.headers.get("neverstale-version", "0"), 16),
    )


def _version(session: Any) -> int:
    return from_timestamp(session.operation_time)
