"""24: requests that want something else than an answer: operators, line breaks, braces, megabytes, forged rights.

Raw bytes go to real processes: one API without limits, one whose callers have used up theirs. Honest readers ask
meanwhile for documents with names as strange as the attacks, and must get exactly these.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

from pymongo import AsyncMongoClient

from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.stack.process import together
from neverstale.ops.stack.role import Role, RunningRole
from tests.faults.rig.attacks import ATTACKS, NAMES, get, past_the_limit
from tests.faults.rig.experiment import FOREIGN, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import Pipeline, pipeline

SERVER_ERRORS: Final = "5xx or left hanging"
GIVEN: Final = "attacks that were given a document or a header of theirs"
TOLD: Final = "internals told"
BYPASS: Final = "documents past the limit"
HELD: Final = "slow heads not cut off"
STARVED: Final = "honest requests not served in time"
CHANGED: Final = "documents changed"

ANSWER_SECONDS: Final = 8.0
HONEST_SECONDS: Final = 3.0
SLOW_CLIENTS: Final = 200
SLOW_SECONDS: Final = 4.0
FUZZED: Final = 300
"""Of one round."""
RESOURCE: Final = "words"
CATALOG: Final = """
database = "{database}"

[resources.words]
key_type = "string"

[resources.words.lists.all]
by = ["kind"]

[resources.numbers]
key_type = "int"
"""
LIMITED: Final = {"LIMITS__REQUESTS_PER_SECOND": "0.01", "LIMITS__BURST": "4"}

WORDS_OF_OURS: Final = re.compile(
    rb"traceback|pymongo|redis\.|mongodb://|redis://|\.py\b|0x[0-9a-f]{8}", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    """0: closed without an answer; -1: neither answered nor closed."""
    head: bytes = b""
    body: bytes = b""


def _failed(reply: Reply) -> bool:
    """No answer, or a server's mistake. 501 and 505 say what no server of ours does: the request's mistake."""
    return reply.status < 0 or (reply.status >= 500 and reply.status not in (501, 505))


async def attack(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with pipeline(turn.bench, turn.rule) as pipe, _documents(pipe) as collection:
        open_, limited = await _start(pipe)
        async with _honest(open_, outcome, turn.random):
            for request in ATTACKS:
                _judge(request, await _send(open_, request), outcome)
            await _fuzz(open_, turn.random, turn.rounds * FUZZED, outcome)
            await _hold(open_, outcome)
        await _exhaust(limited)
        for request in past_the_limit():
            reply = await _send(limited, request)
            has_document = reply.status in (200, 304) and b"ratelimit" not in reply.head.lower()
            outcome.tally(BYPASS).note(has_document or b'"rev"' in reply.body, request[:80], reply.status)
        there = {document["_id"]: document["rev"] async for document in collection.find()}
        outcome.tally(CHANGED).note(there != dict.fromkeys(NAMES, 1), there)
    return outcome


def _judge(request: bytes, reply: Reply, outcome: Outcome) -> None:
    outcome.tally(SERVER_ERRORS).note(_failed(reply), request[:80], reply.status)
    given = b'"rev"' in reply.body or re.search(rb"^x-injected", reply.head, re.MULTILINE | re.IGNORECASE) is not None
    outcome.tally(GIVEN).note(given, request[:80], reply.head[:80], reply.body[:80])
    outcome.tally(TOLD).note(WORDS_OF_OURS.search(reply.body) is not None, request[:80], reply.body[:200])


async def _fuzz(api: RunningRole, dice: Random, count: int, outcome: Outcome) -> None:
    """Attacks with bytes changed, put in and left out: never an error of ours."""
    seeds = [request for request in ATTACKS if len(request) < 2000]

    async def one() -> None:
        request = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 5)):
            place = dice.randrange(len(request))
            match dice.randrange(3):
                case 0:
                    request[place] = dice.randrange(256)
                case 1:
                    request[place:place] = dice.randbytes(dice.randint(1, 20))
                case 2:
                    del request[place : place + dice.randint(1, 20)]
            request = request or bytearray(b"\r\n")
        reply = await _send(api, bytes(request), half_close=True)
        outcome.tally(SERVER_ERRORS).note(_failed(reply), bytes(request[:80]), reply.status)
        outcome.tally(TOLD).note(WORDS_OF_OURS.search(reply.body) is not None, reply.body[:200])

    for start in range(0, count, 50):
        await asyncio.gather(*(one() for _ in range(min(50, count - start))))


async def _hold(api: RunningRole, outcome: Outcome) -> None:
    """Connections that send a header line byte by byte."""

    async def slow() -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, api.ports[0])
        began = time.monotonic()
        with contextlib.suppress(OSError):
            writer.write(b"GET /v1/words/secret HTTP/1.1\r\nX-Slow: ")
            while time.monotonic() - began < SLOW_SECONDS and not reader.at_eof():
                writer.write(b"x")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await reader.read(1000)
        outcome.tally(HELD).note(not reader.at_eof() and reader.exception() is None, "still open")
        writer.close()

    await asyncio.gather(*(slow() for _ in range(SLOW_CLIENTS)))


async def _exhaust(api: RunningRole) -> None:
    """Spend all that this caller may ask for."""
    while (reply := await _send(api, get("/v1/words/secret"))).status != 429:
        assert reply.status == 200, reply


async def _send(api: RunningRole, request: bytes, *, half_close: bool = False) -> Reply:
    """The first answer on a connection of its own."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, api.ports[0])
            writer.write(request)
            if half_close:
                writer.write_eof()
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"^content-length: (\d+)\r$", head, re.MULTILINE)
            body = await reader.readexactly(int(length[1])) if length else await _some(reader)
            return Reply(int(head.split(b" ", 2)[1]), head, body)
    except TimeoutError:
        return Reply(-1)
    except (OSError, asyncio.IncompleteReadError):
        return Reply(0)
    finally:
        if writer is not None:
            writer.transport.abort()


async def _some(reader: asyncio.StreamReader) -> bytes:
    """Of a body of unknown length."""
    try:
        async with asyncio.timeout(0.2):
            return await reader.read(1 << 16)
    except TimeoutError:
        return b""


@contextlib.asynccontextmanager
async def _honest(api: RunningRole, outcome: Outcome, dice: Random) -> AsyncIterator[None]:
    done = False

    async def reader() -> None:
        connection = await Connection.open(api.url)
        while not done:
            name, began = dice.choice(NAMES), time.monotonic()
            if not connection.usable:
                connection = await Connection.open(api.url)
            answer = await connection.get(f"/v1/words/{_encoded(name)}", ANSWER_SECONDS)
            took = time.monotonic() - began
            outcome.tally(STARVED).note(answer.status != 200 or took > HONEST_SECONDS, name, answer.status, took)
            found = json.loads(answer.body).get("_id") if answer.status == 200 else name
            outcome.tally(FOREIGN).note(found != name, "asked for", name, "and got", found)
            await asyncio.sleep(0.01)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(reader())
        try:
            yield
        finally:
            done = True


def _encoded(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


async def _start(pipe: Pipeline) -> Sequence[RunningRole]:
    """An API without limits, and one with."""

    async def start(role: Role, *injected: str, **variables: str) -> None:
        await pipe.start(role, *injected, **variables)

    await start("api", CLIENTS__HEAD_SECONDS="1")
    await together(start("watcher"), start("consumer"), start("api", **LIMITED))
    return [role for role in pipe.roles if role.name.startswith("api")]


def _declare(pipe: Pipeline) -> None:
    Path(pipe.environment["CATALOG"]).write_text(CATALOG.format(database=pipe.name))


@contextlib.asynccontextmanager
async def _documents(pipe: Pipeline) -> AsyncIterator[Any]:
    _declare(pipe)
    async with AsyncMongoClient[dict[str, Any]](pipe.environment["MONGODB__URI"], w="majority") as client:
        collection = client[pipe.name][RESOURCE]
        await collection.insert_many([{"_id": name, "rev": 1, "kind": "a"} for name in NAMES])
        await client[pipe.name]["numbers"].insert_one({"_id": 77, "rev": 1})
        yield collection


EXPERIMENTS = (
    Experiment(
        number="24",
        fault="operators, line breaks, braces, megabytes, slow heads, forged rights and callers, fuzzed requests",
        holds="no 5xx, no document or header that was not asked for, no way past the limit, honest readers served",
        run=attack,
        controls={"a guard that matches paths": BYPASS, "heads may take for ever": HELD},
        short=1,
        long=100,
        long_controls=("heads may take for ever",),
    ),
)
