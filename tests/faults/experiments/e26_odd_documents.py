"""26: whatever BSON can hold, in `_id`, group, score, sort and body fields, beside documents of the usual kind.

Nothing may end a role, and nothing may happen to a neighbour; what Redis holds is what MongoDB says.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from neverstale.ops.http_client import HttpAnswer
from neverstale.ops.stack.process import python
from tests.faults.rig.derived_truth import Asked
from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.faults.rig.pipeline import Pipeline, pipeline
from tests.properties.raw_bson import ARRAY, ODD, REGEX, UNDEFINED, Value, array, document, embedded, integer, string

DEAD: Final = "roles that are gone"
NEIGHBOURS: Final = "neighbours not served"
ODDITIES: Final = "odd documents not served"
DIFFERENT: Final = "Redis and MongoDB differ"
PAGED: Final = "documents not paged exactly once"
COMMANDS: Final = "commands that failed"
LATE: Final = "not applied"

BATCH: Final = 40
"""Odd documents of a round."""
SHORT: Final = [
    value
    for name, value in ODD.items()
    if len(value.payload) < 200 and not any(sign in name for sign in ("name twice", "a zero", "array with"))
]
"""Groups that Redis keeps, and that MongoDB's own aggregation leaves as they are. A longer one is beyond its bound,
and its counter is answered by MongoDB; of two fields of one name an aggregation makes the first one twice."""
SETTLES_SECONDS: Final = 20.0
CONTROL_SETTLES_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 90.0
CATALOG: Final = """
database = "{database}"

[resources.things]
key_type = "string"
warm = {{ from = "lists.up", pages = 2 }}

[resources.things.lists.up]
by = ["kind"]
sort = ["score", "_id"]
page_size = 7

[resources.things.lists.down]
by = ["nested.kind"]
sort = ["-score", "_id"]
page_size = 7

[resources.things.counters.kinds]
by = ["kind"]

[resources.things.counters.totals]
by = ["kind"]
sums = {{ total = {{ field = "score", scale = 2 }} }}

[resources.things.rankings.top]
score = "score"
size = 1000

[resources.others]
key_type = "string"

[resources.others.counters.kinds]
by = ["kind"]
"""
RESYNCS: Final = ("resync", "rebuild", "warm", "check")


@dataclass
class Stage:
    pipe: Pipeline
    asked: Asked
    things: AsyncCollection[Any]
    others: AsyncCollection[Any]
    dice: Random
    outcome: Outcome
    documents: int = 0

    @property
    def patience(self) -> float:
        """Seconds; what a control breaks need not be waited for so long."""
        return SETTLES_SECONDS if self.pipe.rule is None else CONTROL_SETTLES_SECONDS

    async def get(self, path: str, *headers: str) -> HttpAnswer:
        """An answer; of status 0 if none came."""
        try:
            return await self.asked.get(path, *headers)
        except OSError as error:
            return HttpAnswer(0, {}, repr(error).encode())

    async def ask(self, path: str) -> HttpAnswer:
        return await self.get(f"/v1/things/{path}")


async def odd_documents(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with _stage(turn, outcome) as stage:
        for number in turn.each_round(outcome):
            await _write(stage, number)
            if not await _applied(stage):
                outcome.tally(LATE).note(True, "round", number)
                await _neighbours(stage, number)
                break
            outcome.tally(LATE).note(False)
            await _look(stage, number)
            _alive(stage)
        if not turn.rule:
            await asyncio.gather(*(_command(stage, command) for command in RESYNCS))
            await _look(stage, turn.rounds - 1)
            _alive(stage)
    return outcome


@contextlib.asynccontextmanager
async def _stage(turn: Turn, outcome: Outcome) -> AsyncIterator[Stage]:
    async with pipeline(turn.bench, turn.rule) as pipe:
        _declare(pipe)
        async with AsyncMongoClient[Any](pipe.environment["MONGODB__URI"], w="majority") as client:
            database = client[pipe.name]
            await database.others.insert_one({"_id": "o", "kind": "a"})
            _, _, api = await pipe.start_all()
            asked = Asked(api.url)
            try:
                yield Stage(pipe, asked, database.things, database.others, turn.random, outcome)
            finally:
                asked.close()


def _declare(pipe: Pipeline) -> None:
    Path(pipe.environment["CATALOG"]).write_text(CATALOG.format(database=pipe.name))


async def _write(stage: Stage, number: int) -> None:
    """A batch of odd documents among ones of the usual kind; then some of them change, and some go."""
    odd = list(_odd(stage.dice, number))
    usual = [{"_id": f"n{number}-{i}", "kind": "usual", "score": i, "nested": {"kind": i % 3}} for i in range(20)]
    mixed = [RawBSONDocument(raw) for raw in odd] + usual
    stage.dice.shuffle(mixed)
    await stage.things.insert_many(mixed)
    values = list(ODD.values())
    for i in range(0, BATCH, 4):
        field = stage.dice.choice(("kind", "score", "note", "nested.kind"))
        value = stage.dice.choice(SHORT if field == "kind" else values)
        change = RawBSONDocument(document(embedded(value.named(field)).named("$set")))
        await stage.things.update_one({"_id": f"odd{number}-{i}"}, change)
    await stage.things.delete_many({"_id": {"$in": [f"odd{number}-{i}" for i in range(1, BATCH, 8)]}})
    # What is there for a moment only is still told.
    gone = document(string(f"gone{number}").named("_id"), stage.dice.choice(SHORT).named("kind"))
    await stage.things.insert_one(RawBSONDocument(gone))
    await stage.things.delete_one({"_id": f"gone{number}"})


def _odd(dice: Random, number: int) -> Iterator[bytes]:
    """Each has an odd value somewhere; every third, an odd `_id`."""
    values = list(ODD.values())
    keys = [one for one in values if one.kind not in (ARRAY, REGEX, UNDEFINED) and b"$" not in one.payload]
    for i in range(BATCH):
        name = string(f"odd{number}-{i}")
        within = embedded(dice.choice(keys).named("k"), name.named("n"))
        key = within if i % 3 == 2 else name
        yield document(
            key.named("_id"),
            _some(dice, SHORT).named("kind"),
            _some(dice, values).named("score"),
            embedded(_some(dice, SHORT).named("kind")).named("nested"),
            _some(dice, values).named("note"),
            integer(1).named("note"),
        )


def _some(dice: Random, values: Sequence[Value]) -> Value:
    if dice.random() < 0.8:
        return dice.choice(values)
    return array(dice.choice(SHORT), dice.choice(SHORT))  # the deepest ones fit only alone


async def _applied(stage: Stage) -> bool:
    async with stage.things.database.client.start_session() as session:
        await stage.others.update_one({"_id": "o"}, {"$inc": {"n": 1}}, session=session)
        time = session.operation_time
    assert time is not None
    version = (time.time << 32) + time.inc
    within = await stage.pipe.passed(version, stage.patience) is not None
    return within and await stage.asked.until_known(version, "things")


async def _look(stage: Stage, number: int) -> None:
    stage.documents = await stage.things.count_documents({})
    await _neighbours(stage, number)
    await _oddities(stage, number)
    await _derived(stage)
    await _pages(stage)
    lines = (await stage.ask("-/export")).body.splitlines()
    served = len([json.loads(line) for line in lines])
    stage.outcome.tally(ODDITIES).note(served != stage.documents, "exported", served, "of", stage.documents)


async def _neighbours(stage: Stage, number: int) -> None:
    tally = stage.outcome.tally(NEIGHBOURS)
    keys = ",".join(name for i in range(20) for name in (f"n{number}-{i}", f"odd{number}-{i}"))
    together = await stage.get(f"/v1/things?keys={keys}")
    shown = {one["key"]: one["value"] for one in json.loads(together.body)["items"]} if together.status == 200 else {}
    for i in range(20):
        name = f"n{number}-{i}"
        wanted = {"_id": name, "kind": "usual", "score": i, "nested": {"kind": i % 3}}
        alone = await stage.ask(name)
        tally.note(alone.status != 200 or json.loads(alone.body) != wanted, name, alone.status, alone.body[:80])
        tally.note(shown.get(name) != wanted, name, "together", together.status, shown.get(name))
    other = await stage.get(f"/v1/others/{quote(f'x{time.time()}')}")
    tally.note(other.status != 404, "a key of another resource", other.status)
    count = await _settled(stage, "/v1/others/-/counters/kinds?kind=a")
    right = count is not None and json.loads(count.body)["count"] == 1
    tally.note(not right, "a counter of another resource", count and count.body)


async def _oddities(stage: Stage, number: int) -> None:
    tally = stage.outcome.tally(ODDITIES)
    for i in range(BATCH):
        there = i % 8 != 1 and i % 3 != 2
        answer = await stage.ask(f"odd{number}-{i}")
        tally.note(answer.status != (200 if there else 404), f"odd{number}-{i}", answer.status, answer.body[:80])


async def _derived(stage: Stage) -> None:
    """What Redis answers by itself is what MongoDB answers by itself."""
    tally = stage.outcome.tally(DIFFERENT)
    for path in ("-/counters/kinds", "-/counters/kinds?group=kind", "-/counters/totals?kind=usual", "-/rankings/top"):
        kept, found = await _settled(stage, f"/v1/things/{path}"), await _from_mongodb(stage, path)
        ours, theirs = _rows(kept), _rows(found)
        tally.note(not ours or ours != theirs, path, ours - theirs, theirs - ours)


async def _settled(stage: Stage, path: str) -> HttpAnswer | None:
    """An answer from Redis; `None`: none for long."""
    deadline = time.monotonic() + stage.patience
    while time.monotonic() < deadline:
        answer = await stage.get(path)
        if answer.status == 200 and _is_hit(answer):
            return answer
        await asyncio.sleep(0.05)
    return None


async def _from_mongodb(stage: Stage, path: str) -> HttpAnswer:
    return await stage.get(f"/v1/things/{path}", "Cache-Control: no-cache")


def _is_hit(answer: HttpAnswer) -> bool:
    return "; hit" in answer.headers.get("cache-status", "")


def _rows(answer: HttpAnswer | None) -> set[str]:
    """Of groups or a ranking, in any order; nothing of an answer that is none."""
    if answer is None or answer.status != 200:
        return set()
    body = json.loads(answer.body)
    return {json.dumps(row, sort_keys=True) for row in body.get("groups") or body.get("items") or (body,)}


async def _pages(stage: Stage) -> None:
    """Every document of a group exactly once."""
    for name, path, query in (
        ("up", "kind=usual", {"kind": "usual"}),
        ("up", "kind:null", {"kind": None}),
        ("down", "nested.kind:null", {"nested.kind": None}),
        ("down", "nested.kind:int=1", {"nested.kind": 1}),
    ):
        expected = await stage.things.count_documents(query)
        shown = await _paged(stage, f"-/lists/{name}?{path}")
        distinct = {json.dumps(key, sort_keys=True) for key in shown}
        wrong = len(shown) != expected or len(distinct) != expected
        stage.outcome.tally(PAGED).note(wrong, name, path, len(shown), len(distinct), expected)


async def _paged(stage: Stage, path: str) -> list[Any]:
    shown: list[Any] = []
    cursor = ""
    while True:
        answer = await stage.ask(f"{path}{cursor}")
        if answer.status != 200:
            return [*shown, answer.status]
        body = json.loads(answer.body)
        shown += [one["_id"] for one in body["items"]]
        if body["next"] is None or len(shown) > 2 * stage.documents:
            return shown
        cursor = f"&cursor={quote(body['next'], safe='')}"


def _alive(stage: Stage) -> None:
    for role in stage.pipe.roles:
        stage.outcome.tally(DEAD).note(not role.alive, role.name)


async def _command(stage: Stage, name: str) -> None:
    """The command ends well, as an operator runs it."""
    more = ("things",) if name in ("resync", "rebuild", "warm") else ()
    process = await asyncio.create_subprocess_exec(
        *map(str, python("neverstale.ops.cli", name, *more)),
        env=stage.pipe.variables(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        said, _ = await process.communicate()
    wrong = process.returncode not in ((0, 1) if name == "check" else (0,)) or b"Traceback" in said
    stage.outcome.tally(COMMANDS).note(wrong, name, process.returncode, said[-300:])


EXPERIMENTS = (
    Experiment(
        number="26",
        fault="values of every type of BSON, however odd, in keys, groups, scores, sorted and other fields",
        holds="roles live, neighbours are served, Redis and MongoDB agree",
        run=odd_documents,
        controls={"documents are decoded as the driver does": NEIGHBOURS},
        short=2,
        long=60,
    ),
)
