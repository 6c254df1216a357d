"""3b: a consumer is stopped between its read and its contribution; its successor goes on; then it wakes up."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from signal import SIGCONT, SIGSTOP
from typing import Any, Final

from neverstale.ops.stack.role import RunningRole
from neverstale.ops.truth.oracle import Tally
from neverstale.versions import from_timestamp
from tests.faults.experiments.e37_storms import CONVERGE_SECONDS, deriving_from
from tests.faults.rig.derived_truth import Asked, compared
from tests.faults.rig.experiment import LATE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import Pipeline, metrics
from tests.faults.rig.proxy import Proxy
from tests.support.waiting import eventually
from tests.worlds.deriving import Deriving

BROUGHT_BACK: Final = "brought back by the zombie"
SET_BACK: Final = "set back by the zombie"
KEYS: Final = 60
PATIENT_MS: Final = "120000"
READ: Final = b"\x02origin\0"
"""In each document that MongoDB answers."""

Write = Callable[[Any, Sequence[str], Any], Awaitable[Any]]
"""Changes these keys of a collection, in a session."""


async def wake_ghosts(turn: Turn) -> Outcome:
    outcome, mongod = Outcome(), await turn.bench.mongod()
    async with (
        Proxy(mongod.members[0].ports[0]) as proxy,
        deriving_from(turn, partitions=1) as (pipe, deriving),
    ):
        watched, asked_role = await pipe.start("watcher"), await pipe.start("api")
        assert watched.alive
        for round_ in range(turn.rounds):
            born = [f"born{round_}-{number}" for number in range(KEYS)]
            moved = [f"moved{round_}-{number}" for number in range(KEYS)]
            with closing(Asked(asked_role.url)) as asked:
                ghosts = _Ghosts(turn, pipe, deriving, proxy, asked, outcome)
                await ghosts.wake(SET_BACK, moved, _insert, _move("LGA"), _move("EWR"))
                await ghosts.wake(BROUGHT_BACK, born, None, _insert, _delete)
    return outcome


async def _insert(documents: Any, keys: Sequence[str], session: Any) -> None:
    fields = {"origin": "JFK", "day": 1, "status": "s", "cancelled": False, "delay": 5, "tags": ["a"]}
    await documents.insert_many([{"_id": key, **fields} for key in keys], session=session)


async def _delete(documents: Any, keys: Sequence[str], session: Any) -> None:
    await documents.delete_many({"_id": {"$in": list(keys)}}, session=session)


def _move(origin: str) -> Write:
    async def move(documents: Any, keys: Sequence[str], session: Any) -> None:
        await documents.update_many({"_id": {"$in": list(keys)}}, {"$set": {"origin": origin}}, session=session)

    return move


class _Ghosts:
    def __init__(
        self, turn: Turn, pipe: Pipeline, deriving: Deriving, proxy: Proxy, asked: Asked, outcome: Outcome
    ) -> None:
        self._turn = turn
        self._pipe = pipe
        self._deriving = deriving
        self._proxy = proxy
        self._asked = asked
        self._outcome = outcome

    async def wake(self, what: str, keys: Sequence[str], before: Write | None, first: Write, then: Write) -> None:
        """The zombie has read what `first` left when its successor applies `then`."""
        async with self._zombie() as zombie:
            if before is not None:
                await self._passed(await self._write(before, keys))
            self._proxy.down.hold()
            self._proxy.down.seek(READ)
            await self._write(first, keys)

            async def is_read() -> bool:
                return self._proxy.down.found >= KEYS

            await eventually(is_read, "the documents are read", 30)
            done, refused = await _done(zombie), await _refused(zombie)
            zombie.signal(SIGSTOP)
            successor = await self._consumer(None)
            await self._passed(await self._write(then, keys))
            self._proxy.heal()
            zombie.signal(SIGCONT)

            async def has_tried() -> bool:
                return await _done(zombie) > done

            await eventually(has_tried, "the zombie has contributed, or was refused", 30)
            self._outcome.count("refused", await _refused(zombie) - refused)
            await self._compare(what)
            successor.kill()

    @contextlib.asynccontextmanager
    async def _zombie(self) -> AsyncIterator[RunningRole]:
        """The only consumer, and the only role that goes without the rule."""
        zombie = await self._consumer(
            self._turn.rule,
            MONGODB__URI=f"mongodb://127.0.0.1:{self._proxy.port}/?directConnection=true",
            MONGODB__READ_TIMEOUT_MS=PATIENT_MS,
            MONGODB__SERVER_SELECTION_TIMEOUT_MS=PATIENT_MS,
        )
        try:
            await self._deriving.until_complete()
            yield zombie
        finally:
            self._proxy.heal()
            zombie.kill()

    async def _consumer(self, rule: str | None, **variables: str) -> RunningRole:
        self._pipe.rule = rule
        try:
            return await self._pipe.start("consumer", **variables)
        finally:
            self._pipe.rule = None

    async def _write(self, write: Write, keys: Sequence[str]) -> int:
        """One transaction, so that all of it arrives together."""
        async with self._deriving.mongo.start_session() as session:
            async with await session.start_transaction():
                await write(self._deriving.documents, keys, session)
            assert session.operation_time is not None
            return from_timestamp(session.operation_time)

    async def _passed(self, version: int) -> None:
        done = await self._pipe.passed(version, CONVERGE_SECONDS)
        self._outcome.tally(LATE).note(done is None, f"not within {CONVERGE_SECONDS:g} s")

    async def _compare(self, what: str) -> None:
        found = await compared(self._asked, self._deriving.documents, ())
        for tally in (found.pages, found.groups, found.scores):
            self._outcome.add(what, tally)
        differences = await self._deriving.differences(await self._deriving.until_complete())
        self._outcome.add(what, Tally(len(differences), found.groups.checked, differences))


async def _done(consumer: RunningRole) -> float:
    """How often it has contributed, or was refused."""
    return await _count(consumer, "neverstale_derived_total") + await _refused(consumer)


async def _refused(consumer: RunningRole) -> float:
    return await _count(consumer, "neverstale_derived_again_total")


async def _count(consumer: RunningRole, name: str) -> float:
    try:
        return (await metrics(consumer)).get(name, 0)
    except OSError:
        return 0


EXPERIMENTS = (
    Experiment(
        number="3b",
        fault="SIGSTOP of a consumer between its read and its contribution, a successor goes on, SIGCONT",
        holds="counts, sums, pages and scores stay MongoDB's",
        run=wake_ghosts,
        controls={
            "any read may create a contribution": BROUGHT_BACK,
            "any contribution takes the place of any other": SET_BACK,
        },
        short=0,
        long=10,
    ),
)
