"""`neverstale doctor` and real MongoDBs: one has odd collections and users, one is a set that keeps up badly."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.mongodb.control import CONTROL
from neverstale.ops.stack.group import start_members
from neverstale.ops.stack.mongod import REPLICA_SET, MongodOptions, ReplicaSet, _launch, find_mongod, is_primary
from neverstale.ops.stack.ports import free_port
from tests.conftest import have
from tests.support.stack import run
from tests.support.waiting import eventually
from tests.worlds.doctored import Patient, levels

Client = AsyncMongoClient[dict[str, Any]]

RESOURCES = {
    "mixed": {"key_type": "string"},
    "capped": {"key_type": "string"},
    "seen": {"key_type": "string"},
    "listed": {"key_type": "string", "lists": {"all": {"by": ["day"], "sort": ["_id"]}}},
}


@pytest.fixture
def patient(
    mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str, database: str
) -> Patient:
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_REDIS__URL": redis_url,
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
    }
    return Patient(environ, Catalog.model_validate({"database": database, "resources": RESOURCES}))


async def test_collections_users_clocks_and_indexes_that_are_wrong_are_said_each_with_its_remedy(
    patient: Patient, mongo_uri: str, database: str
) -> None:
    async with Client(mongo_uri) as mongo:
        await mongo[database].mixed.insert_many([{"_id": "a"}, {"_id": 5}])
        await mongo[database].create_collection("capped", capped=True, size=4096)
        await mongo[database].create_collection("seen", viewOn="mixed", pipeline=[])
        await mongo[database].listed.insert_one({"_id": "a", "day": 1})
        user = f"user{database}"
        await mongo.admin.command("createUser", user, pwd="s3cret", roles=["root"])
        try:
            uri = mongo_uri.replace("mongodb://", f"mongodb://{user}:s3cret@").replace("/?", "/?authSource=admin&")
            spoilt = Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": uri}, patient.catalog)
            found = await spoilt.findings("collections", "privileges", "clocks", wall=lambda: time.time() + 3600)
        finally:
            await mongo.admin.command("dropUser", user)
    assert levels(found) == {
        ("collections", "warning"),
        ("collections", "problem"),
        ("privileges", "warning"),
        ("clocks", "warning"),
    }
    said = " ".join(one.message for one in found)
    for words in ("mixes types of _id", "is capped", "is a view", "has root", "of this machine is 3600.", "ahead of"):
        assert words in said
    assert all(one.remedy for one in found) and "s3cret" not in str(found)


async def test_a_list_without_an_index_is_said_as_check_does(patient: Patient, mongo_uri: str, database: str) -> None:
    catalog = Catalog.model_validate({"database": database, "resources": {"listed": RESOURCES["listed"]}})
    async with Client(mongo_uri) as mongo:
        await mongo[database].listed.insert_one({"_id": "a", "day": 1})
        [finding] = await Patient(patient.environ, catalog).findings("indexes")
    assert finding.level == "problem" and "createIndex" in finding.remedy


@pytest.fixture(scope="module")
def lame(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A primary, a secondary and an arbiter; with an oplog of 1 MB."""
    sets: list[ReplicaSet] = []

    def start() -> str:
        sets.append(run(_lame(MongodOptions(data=tmp_path_factory.mktemp("lame"), oplog_mb=1, test_commands=True))))
        return sets[0].uri

    have(start)
    yield sets[0]
    sets[0].kill()


async def _lame(options: MongodOptions) -> ReplicaSet:
    binary = find_mongod()
    started = ReplicaSet(await start_members([_launch(binary, options, n, free_port()) for n in range(3)]))
    members = [{"_id": number, "host": host} for number, host in enumerate(started.hosts)]
    members[1]["priority"], members[2]["arbiterOnly"] = 0, True
    config = {"_id": REPLICA_SET, "members": members, "settings": {"electionTimeoutMillis": 2000}}
    async with Client(f"mongodb://{started.hosts[0]}/?directConnection=true") as client:
        await client.admin.command("replSetInitiate", config)

        async def leads() -> bool:
            return await is_primary(started.hosts[0])

        await eventually(leads, "the first member leads", 40)
    return started


@pytest.fixture
async def secondary(lame: ReplicaSet) -> AsyncIterator[Client]:
    async with Client(f"mongodb://{lame.hosts[1]}/?directConnection=true") as client:
        yield client


async def test_an_arbiter_a_member_that_lags_and_a_majority_that_stands_are_said(
    patient: Patient, lame: ReplicaSet, secondary: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": lame.uri}, patient.catalog)
    monkeypatch.setattr("neverstale.ops.doctor.replica_set.MAJORITY_SECONDS", 0.5)
    monkeypatch.setattr("neverstale.ops.doctor.replica_set.LAG_SECONDS", 0.5)
    await secondary.admin.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
    try:
        async with Client(lame.uri, w=1) as mongo:
            said: list[str] = []

            async def all_said() -> bool:
                await mongo.spoilt.things.insert_one({})
                found = await spoilt.findings("replica-set")
                said[:] = [f"{one.level}: {one.message}" for one in found]
                return len(said) == 3

            await eventually(all_said, "all three are said", 40)
    finally:
        await secondary.admin.command("configureFailPoint", "stopReplProducer", mode="off")
    assert any("problem: the majority is" in one for one in said)
    assert any("problem: member" in one and "behind the primary" in one for one in said)
    assert any("warning:" in one and "is an arbiter" in one for one in said)


async def test_an_oplog_that_is_short_for_its_rate_and_a_position_that_it_has_lost_are_said(
    patient: Patient, lame: ReplicaSet, database: str
) -> None:
    spoilt = Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": lame.uri}, patient.catalog)
    async with Client(lame.uri, w=1) as mongo:
        await mongo[database].things.insert_many([{"text": "x" * 10_000} for _ in range(100)])
        [short] = await spoilt.findings("oplog")
        assert short.level == "problem" and "at the present rate" in short.message
        assert "replSetResizeOplog" in short.remedy
        token = {"_data": f"82{5:08X}{1:08X}"}
        await mongo[database][CONTROL].insert_one({"_id": "checkpoint:default", "token": token, "partitions": 1})
        found = await spoilt.findings("oplog")
    assert any("voids everything cached" in one.message and "older than the oplog" in one.message for one in found)
