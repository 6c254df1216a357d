"""36: callers with a session read what they wrote and never see time go backwards, whichever API answers and whatever
happens behind it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any

import httpx
from pymongo import AsyncMongoClient, ReturnDocument
from redis.asyncio import Redis

from neverstale.client import Session
from neverstale.ops.stack.process import together
from tests.faults.rig.experiment import LATE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import RESOURCE, Pipeline, pipeline

UNSEEN = "a session's own write not seen"
BACKWARDS = "time went backwards"
SESSIONS = 8
KEYS = 24
"""Few, so that most of what a session reads was changed by another one a moment ago."""
PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 10.0
DISTURBED_SECONDS = 1.0
SEEN_AGAIN_SECONDS = 20.0


@dataclass
class Caller:
    """One session, over two APIs in turn. Each document is written by one caller only, so its revision counts up."""

    number: int
    documents: Any
    """The collection."""
    mongo: AsyncMongoClient[dict[str, Any]]
    clients: list[httpx.AsyncClient]
    reads: Session
    outcome: Outcome
    dice: Random
    seen: dict[int, int] = field(default_factory=dict)
    """Document -> the latest revision that was seen; of its own, that was written."""

    async def call(self) -> None:
        """Write or read, for ever."""
        for client in cycle(self.clients):
            if self.dice.random() < 0.3:
                await self._write(self.dice.randrange(self.number, KEYS, SESSIONS))
            await self._read(client, self.dice.randrange(KEYS))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _write(self, key: int) -> None:
        async with self.mongo.start_session() as session:
            written = await self.documents.find_one_and_update(
                {"_id": key}, {"$inc": {"rev": 1}}, session=session, return_document=ReturnDocument.AFTER
            )
            self.reads.wrote(session)
        self.seen[key] = written["rev"]

    async def _read(self, client: httpx.AsyncClient, key: int) -> None:
        known = self.seen.get(key, 0)
        try:
            answer = await client.get(f"/v1/{RESOURCE}/{key}")
        except httpx.TransportError:
            self.outcome.count("no answer")
            return
        if answer.status_code != 200:
            self.outcome.count("honest refusals")
            return
        revision = answer.json()["rev"]
        mine = key % SESSIONS == self.number
        sentence = f"document {key} at revision {revision} after {known}, {answer.headers['cache-status']}"
        self.outcome.tally(UNSEEN if mine else BACKWARDS).note(revision < known, sentence)
        self.seen[key] = max(known, revision)


async def sessions(turn: Turn) -> Outcome:
    outcome, redis = Outcome(), await turn.bench.new_redis()
    async with (
        pipeline(turn.bench, turn.rule, redis_url=redis.url, on_change="invalidate") as pipe,
        AsyncMongoClient[dict[str, Any]](pipe.environment["MONGODB__URI"], w="majority") as mongo,
    ):
        await mongo[pipe.name][RESOURCE].insert_many([{"_id": key, "rev": 1} for key in range(KEYS)])
        await together(_start(pipe), _start_api(pipe))
        consumer = next(role for role in pipe.roles if role.name.startswith("consumer"))
        async with _callers(turn, pipe, mongo, outcome) as reads, Redis.from_url(redis.url) as client:
            for round_ in range(turn.rounds):
                if round_ % 2:
                    await client.flushall()
                    await asyncio.sleep(DISTURBED_SECONDS)
                else:
                    consumer.kill()  # what is written from now on is not applied: every entry of it is too old
                    await asyncio.sleep(DISTURBED_SECONDS)
                    await consumer.restart(0)
                ended = time.monotonic()
                newest = max(each.version for each in reads)
                passed = await pipe.passed(newest, SEEN_AGAIN_SECONDS)
                outcome.tally(LATE).note(passed is None, f"not within {SEEN_AGAIN_SECONDS:g} s")
                outcome.recovery.append(time.monotonic() - ended)
    return outcome


async def _start(pipe: Pipeline) -> None:
    await pipe.start_all()


async def _start_api(pipe: Pipeline) -> None:
    await pipe.start("api")


@contextlib.asynccontextmanager
async def _callers(
    turn: Turn, pipe: Pipeline, mongo: AsyncMongoClient[dict[str, Any]], outcome: Outcome
) -> AsyncIterator[list[Session]]:
    urls = [role.url for role in pipe.roles if role.name.startswith("api")]
    found = [Session() for _ in range(SESSIONS)]
    async with contextlib.AsyncExitStack() as exits:
        calling = []
        for number, reads in enumerate(found):
            hooks: Any = reads.async_hooks()
            clients = [httpx.AsyncClient(base_url=url, event_hooks=hooks, timeout=ANSWER_SECONDS) for url in urls]
            for client in clients:
                await exits.enter_async_context(client)
            documents, dice = mongo[pipe.name][RESOURCE], Random(turn.random.random() + number)
            caller = Caller(number, documents, mongo, clients, reads, outcome, dice)
            calling.append(asyncio.create_task(caller.call()))
        try:
            yield found
        finally:
            for task in calling:
                task.cancel()
            for ended in await asyncio.gather(*calling, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended


EXPERIMENTS = (
    Experiment(
        number="36",
        fault="callers change APIs with every request; the consumer is killed, Redis is emptied",
        holds="a session sees what it wrote, and time never goes backwards",
        run=sessions,
        controls={"sessions demand nothing": UNSEEN},
        short=2,
        long=100,
    ),
)
