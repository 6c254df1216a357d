"""27: one collection refuses, a view pretends to be one, and a caller forges cursors; everybody else is served.

Readers ask for what is not cached, so that each answer needs MongoDB. A view's base changes meanwhile: whatever is
answered from the view must say that it has no bound, or be right.
"""

import asyncio
import contextlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import bson
import orjson
from pymongo import AsyncMongoClient

from tests.faults.rig.derived_truth import Asked
from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.faults.rig.pipeline import Pipeline, pipeline

NEIGHBOURS: Final = "neighbours not served"
REFUSED: Final = "refusals without a reason"
FORGED: Final = "forged cursors that were taken"
FALSE: Final = "changes of a view missed within its bound"
UNREADY: Final = "the API was not ready"

READS: Final = 30
CATALOG: Final = """
database = "{database}"

[resources.things]
key_type = "string"

[resources.things.lists.all]
page_size = 2

[resources.logs]
key_type = "string"

[resources.seen]
key_type = "string"
"""


async def refusals(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with _stage(turn) as ((asked, *others), database):
        for number in turn.each_round(outcome):
            await asyncio.gather(
                _ask_the_capped(others[0], outcome),
                _forge(others[1], outcome),
                _read(others[2], outcome),
                _change_the_view(asked, database, outcome, number),
            )
            ready = await asked.get("/readyz")
            outcome.tally(UNREADY).note(ready.status != 200, ready.status, ready.body[:200])
    return outcome


@contextlib.asynccontextmanager
async def _stage(turn: Turn) -> AsyncIterator[tuple[list[Asked], Any]]:
    async with pipeline(turn.bench, turn.rule) as pipe:
        _declare(pipe)
        async with AsyncMongoClient[Any](pipe.environment["MONGODB__URI"], w="majority") as client:
            database = client[pipe.name]
            await database.things.insert_many([{"_id": f"t{i}"} for i in range(10)])
            await database.create_collection("logs", capped=True, size=4096)
            await database.base.insert_one({"_id": "a", "n": 0})
            await database.create_collection("seen", viewOn="base", pipeline=[])
            _, _, api = await pipe.start_all()
            callers = [Asked(api.url) for _ in range(4)]
            try:
                yield callers, database
            finally:
                for caller in callers:
                    caller.close()


def _declare(pipe: Pipeline) -> None:
    Path(pipe.environment["CATALOG"]).write_text(CATALOG.format(database=pipe.name))


async def _ask_the_capped(asked: Asked, outcome: Outcome) -> None:
    for _ in range(READS):
        answer = await asked.get(f"/v1/logs/{secrets.token_hex(6)}")
        outcome.tally(REFUSED).note(
            answer.status != 503 or b"SnapshotUnavailable" not in answer.body, answer.status, answer.body[:200]
        )


async def _read(asked: Asked, outcome: Outcome) -> None:
    for _ in range(READS):
        answer = await asked.get(f"/v1/things/{secrets.token_hex(6)}")
        outcome.tally(NEIGHBOURS).note(answer.status != 404, answer.status, answer.body[:200])
        page = await asked.get("/v1/things/-/lists/all", "Cache-Control: no-cache")
        outcome.tally(NEIGHBOURS).note(page.status != 200, page.status, page.body[:200])
        await asyncio.sleep(0.02)


async def _forge(asked: Asked, outcome: Outcome) -> None:
    page = await asked.get("/v1/things/-/lists/all")
    given = orjson.loads(page.body).get("next") if page.status == 200 else None
    if given is None:
        return
    deep: Any = 1
    for _ in range(198):
        deep = {"a": deep}
    head = urlsafe_b64decode(given + "==")[:9]
    for _ in range(READS):
        data = head + bson.encode({"": [deep]})
        # Without a secret the key of the signature is what the page belongs to, which a caller could work out.
        forged = urlsafe_b64encode(data + blake2b(data, digest_size=8).digest()).rstrip(b"=").decode()
        answer = await asked.get(f"/v1/things/-/lists/all?cursor={forged}")
        outcome.tally(FORGED).note(answer.status != 400, answer.status, answer.body[:200])


async def _change_the_view(asked: Asked, database: Any, outcome: Outcome, number: int) -> None:
    for change in range(1, 6):
        n = number * 10 + change
        await database.base.update_one({"_id": "a"}, {"$set": {"n": n}})
        await asyncio.sleep(0.1)
        answer = await asked.get("/v1/seen/a")
        if answer.status != 200:
            continue
        bound = answer.headers.get("neverstale-bound", "unknown")
        is_false = orjson.loads(answer.body)["n"] != n and bound != "unknown" and float(bound) < 0.1
        outcome.tally(FALSE).note(is_false, "n is", n, "answered", answer.body[:80], "bound", bound)


EXPERIMENTS = (
    Experiment(
        number="27",
        fault="one collection refuses, a view pretends to be one, one caller forges cursors",
        holds="others are served, the API is ready, each refusal has its reason, no bound is false",
        run=refusals,
        controls={"whatever MongoDB refuses is an outage": NEIGHBOURS, "what a read is of is not looked at": FALSE},
        short=3,
        long=50,
    ),
)
