"""6 and 7: members of a replica set that are behind, or cut off."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from signal import SIGCONT, SIGSTOP
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from neverstale.errors import Outage
from neverstale.ops.stack.mongod import ReplicaSet, is_primary
from neverstale.ops.stack.process import RunningProcess
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.reading import reading, things
from tests.support.waiting import eventually

KEYS = 50
LAGGING_READ_MS = 150
ROLLED_BACK = "rolled-back values cached"
PHANTOM = 1_000_000
ELECTION_SECONDS = 30.0


async def lag_behind(turn: Turn) -> Outcome:
    """Fills are answered by a member that has stopped replicating; what it lacks has been applied."""
    outcome, bench, name = Outcome(), turn.bench, turn.bench.name("lag")
    members, redis = await bench.replica_set(), await bench.redis()
    lagging = await _secondary(members)
    uri = f"mongodb://127.0.0.1:{lagging.ports[0]}/?directConnection=true&readPreference=secondaryPreferred"
    async with (
        things(members.uri, name) as written,
        reading(members.uri, redis.url, name, member=uri, read_ms=LAGGING_READ_MS) as here,
    ):
        for round_ in turn.each_round(outcome):
            keys = range(round_ * KEYS, (round_ + 1) * KEYS)
            await here.apply([], await written.insert(keys))
            await _until_it_knows(lagging, name, keys)
            async with stopped_replication(lagging):
                # Nothing is cached, so the change leaves no trace in Redis but the register.
                await here.apply(keys, await written.change(keys))
                with contextlib.suppress(Outage):
                    await here.read(keys)
                    outcome.count("answers of the lagging member", KEYS)
                written.judge(keys, await here.served(keys), outcome.tally(STALE))
            await _until_it_knows(lagging, name, keys)
            await here.read(keys)
            written.judge(keys, await here.served(keys), outcome.tally(STALE))
    return outcome


@contextlib.asynccontextmanager
async def stopped_replication(member: RunningProcess) -> AsyncIterator[None]:
    await _fail_point([member], "rsSyncApplyStop", "alwaysOn")
    try:
        yield
    finally:
        await _fail_point([member], "rsSyncApplyStop", "off")


async def _until_it_knows(member: RunningProcess, database: str, keys: range) -> None:
    async with _direct(member) as client:
        majority = client[database]["things"]

        async def knows() -> bool:
            wanted = {"_id": {"$in": list(keys)}}
            reply = await client[database].command(
                {"count": majority.name, "query": wanted, "readConcern": {"level": "majority"}},
                read_preference=client.read_preference,
            )
            return bool(reply["n"] == len(keys))

        await eventually(knows, "the member has caught up", 20)


async def roll_back(turn: Turn) -> Outcome:
    """The primary is cut off and takes a write that only it has; readers ask it; then it learns of its successor."""
    outcome, bench, name = Outcome(), turn.bench, turn.bench.name("rollback")
    redis, members = await bench.redis(), await bench.replica_set()
    for round_ in turn.each_round(outcome):
        primary, database, keys = await _primary(members), f"{name}-{round_}", range(KEYS)
        followers = [member for member in members.members if member is not primary]
        uri = f"mongodb://127.0.0.1:{primary.ports[0]}/?directConnection=true"
        async with (
            things(members.uri, database) as written,
            reading(members.uri, redis.url, database, member=uri, read_ms=2000) as here,
        ):
            await written.insert(keys)
            async with _cut_off(primary, followers):
                await _write_alone(primary, database)
                with contextlib.suppress(Outage):
                    await here.read(keys)
                primary.signal(SIGSTOP)
                await _elected(followers)
            primary.signal(SIGCONT)
            await members.until_serving()
            await _until_rolled_back(members, database)
            for key, revision in zip(keys, await here.served(keys), strict=True):
                outcome.tally(ROLLED_BACK).note(revision == PHANTOM, "key", key)
                outcome.count("values cached", revision is not None)
    return outcome


@contextlib.asynccontextmanager
async def _cut_off(primary: RunningProcess, followers: list[RunningProcess]) -> AsyncIterator[None]:
    """Followers fetch nothing any more. (Stopped ones would still find what lies in their sockets.)"""
    try:
        await _fail_point(followers, "stopReplProducer", "alwaysOn")
        yield
    finally:
        primary.signal(SIGCONT)
        await _fail_point(followers, "stopReplProducer", "off")


async def _write_alone(primary: RunningProcess, database: str) -> None:
    async with _direct(primary) as client:
        collection = client[database].get_collection("things", write_concern=WriteConcern(1))
        await collection.update_many({}, {"$set": {"rev": PHANTOM}})


async def _fail_point(members: Sequence[RunningProcess], name: str, mode: str) -> None:
    for member in members:
        async with _direct(member) as client:
            await client.admin.command("configureFailPoint", name, mode=mode)


async def _elected(candidates: Sequence[RunningProcess]) -> None:
    """One of them has become primary."""

    async def led() -> bool:
        return any([await is_primary(f"127.0.0.1:{member.ports[0]}") for member in candidates])

    await eventually(led, "a follower is elected", ELECTION_SECONDS)


async def _until_rolled_back(members: ReplicaSet, database: str) -> None:
    async def gone() -> bool:
        for member in members.members:
            async with _direct(member) as client:
                with contextlib.suppress(PyMongoError):
                    if await client[database].things.find_one({"rev": PHANTOM}) is not None:
                        return False
        return True

    await eventually(gone, "the write is rolled back", ELECTION_SECONDS)


def _direct(member: RunningProcess) -> AsyncMongoClient[dict[str, Any]]:
    return AsyncMongoClient(
        f"mongodb://127.0.0.1:{member.ports[0]}/?directConnection=true&readPreference=primaryPreferred",
        serverSelectionTimeoutMS=5000,
        socketTimeoutMS=5000,
    )


async def _primary(members: ReplicaSet) -> RunningProcess:
    await members.until_serving()
    primary = await members.primary()
    assert primary is not None
    return primary


async def _secondary(members: ReplicaSet) -> RunningProcess:
    primary = await _primary(members)
    return next(member for member in members.members if member is not primary)


EXPERIMENTS = (
    Experiment(
        number="6",
        fault="a lagging member answers fills",
        holds="no value older than what was applied is cached",
        run=lag_behind,
        controls={"no lower bound": STALE},
        short=3,
        long=100,
    ),
    Experiment(
        number="7",
        fault="a primary is cut off, takes a write with w:1, is read through the API, and heals",
        holds="the rolled-back value is never cached",
        run=roll_back,
        controls={"read concern local": ROLLED_BACK},
        short=1,
        long=10,
    ),
)
