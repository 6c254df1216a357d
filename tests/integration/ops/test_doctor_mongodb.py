"""`neverstale doctor` and real MongoDBs: one has odd collections and users, one is a set that keeps up badly."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.mongodb.control import CONTROL, HEARTBEATS
from neverstale.mongodb.oplog import end_of_oplog
from neverstale.ops.stack.group import start_members
from neverstale.ops.stack.mongod import REPLICA_SET, MongodOptions, ReplicaSet, _launch, find_mongod, is_primary
from neverstale.ops.stack.ports import free_port
from tests.conftest import have
from tests.support.stack import run
from tests.support.waiting import eventually
from tests.worlds.doctored import Patient, levels, provokes

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


@provokes("mixed-keys", "nothing-tells", "rights-too-wide", "host-clock", "writes-elsewhere", "connections-short")
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
        for name in (CONTROL, HEARTBEATS):
            await mongo[database][name].insert_one({})  # as a watcher has made them
        try:
            uri = mongo_uri.replace("mongodb://", f"mongodb://{user}:s3cret@").replace("/?", "/?authSource=admin&")
            spoilt = Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": uri}, patient.catalog)
            found = await spoilt.findings("collections", "privileges", "clocks", wall=lambda: time.time() + 3600)
            here, there = ({"role": "readWrite", "db": name} for name in (database, "elsewhere"))
            await mongo.admin.command("updateUser", user, roles=[here, there, "clusterMonitor"])
            many = Patient(spoilt.environ | {"NEVERSTALE_MONGODB__MAX_POOL_SIZE": "1000000"}, patient.catalog)
            async with Redis.from_url(patient.environ["NEVERSTALE_REDIS__URL"]) as redis:
                await many.show_cards(redis)
            later = await many.findings("privileges", "connections")
        finally:
            await mongo.admin.command("dropUser", user)
    assert levels(found) == {
        ("collections", "warning"),
        ("collections", "problem"),
        ("privileges", "warning"),
        ("clocks", "warning"),
    }
    assert {"writes-elsewhere", "connections-short"} <= {one.name for one in later}
    said = " ".join(one.message for one in found)
    for words in ("mixes types of _id", "is capped", "is a view", "has root", "of this machine is 3600.", "ahead of"):
        assert words in said
    assert all(one.remedy for one in found) and "s3cret" not in str(found)


@provokes("no-index")
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


@provokes("delayed-voter", "member-down")
async def test_a_member_that_votes_with_a_delay_and_one_that_is_away_are_said(
    patient: Patient, lame: ReplicaSet, secondary: Client
) -> None:
    spoilt = Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": lame.uri}, patient.catalog)

    async def delayed_by(seconds: int) -> None:
        async with Client(f"mongodb://{lame.hosts[0]}/?directConnection=true") as mongo:
            config = (await mongo.admin.command("replSetGetConfig"))["config"]
            config["members"][1]["secondaryDelaySecs"] = seconds
            config["version"] += 1
            await mongo.admin.command("replSetReconfig", config)

    await delayed_by(3600)
    found = await spoilt.findings("replica-set")
    await delayed_by(0)
    assert any(one.name == "delayed-voter" and "c.members[1].votes = 0" in one.remedy for one in found)
    await secondary.admin.command("replSetMaintenance", True)
    try:

        async def said() -> bool:
            return any(one.name == "member-down" for one in await spoilt.findings("replica-set"))

        await eventually(said, "a member that recovers is said", 30)
    finally:
        await secondary.admin.command("replSetMaintenance", False)


@provokes("arbiter", "member-behind", "majority-stands")
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
                return {one.name for one in found} == {"arbiter", "member-behind", "majority-stands"}

            await eventually(all_said, "all three are said", 40)
    finally:
        await secondary.admin.command("configureFailPoint", "stopReplProducer", mode="off")
    assert any("problem: the majority is" in one for one in said)
    assert any("problem: member" in one and "behind the primary" in one for one in said)
    assert any("warning:" in one and "is an arbiter" in one for one in said)


@provokes("oplog-short", "position-old", "position-lost")
async def test_an_oplog_that_is_short_for_its_rate_and_a_position_that_it_has_lost_are_said(
    patient: Patient, lame: ReplicaSet, database: str
) -> None:
    spoilt = Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": lame.uri}, patient.catalog)
    async with Client(lame.uri, w=1) as mongo:
        await mongo[database].things.insert_many([{"text": "x" * 10_000} for _ in range(100)])
        [short] = await spoilt.findings("oplog")
        assert short.level == "problem" and "at the present rate" in short.message
        assert "replSetResizeOplog" in short.remedy
        first = await end_of_oplog(mongo, 1)
        token = {"_data": f"82{(first >> 32) + 1:08X}{1:08X}"}
        await mongo[database][CONTROL].insert_one({"_id": "checkpoint:default", "token": token, "partitions": 1})
        found = await spoilt.findings("oplog")
        assert any(one.name == "position-old" and "soon everything cached is void" in one.message for one in found)
        token = {"_data": f"82{5:08X}{1:08X}"}
        await mongo[database][CONTROL].update_one({"_id": "checkpoint:default"}, {"$set": {"token": token}})
        found = await spoilt.findings("oplog")
    assert any("voids everything cached" in one.message and "older than the oplog" in one.message for one in found)


@provokes("no-primary", "no-replica-set", "never-initiated")
async def test_servers_that_are_no_set_or_a_set_without_a_primary_are_said_each_with_its_remedy(
    patient: Patient, lame: ReplicaSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The last test of these servers: the lame set stays without a primary."""
    launches = [
        _launch(find_mongod(), MongodOptions(data=tmp_path_factory.mktemp("alone")), n, free_port()) for n in (0, 1)
    ]
    at = launches[1].argv.index("--replSet")
    launches[1] = replace(launches[1], argv=[*launches[1].argv[:at], *launches[1].argv[at + 2 :]])
    alone = ReplicaSet(await start_members(launches))
    try:
        async with Client(f"mongodb://{lame.hosts[0]}/?directConnection=true") as mongo:
            stepped = {"replSetStepDown": 600, "secondaryCatchUpPeriodSecs": 0, "force": True}
            await mongo.admin.command(stepped)
        for uri, name in (
            (lame.uri, "no-primary"),
            (f"mongodb://{alone.hosts[0]}/?replicaSet=rs0", "never-initiated"),
            (f"mongodb://{alone.hosts[1]}", "no-replica-set"),
        ):
            fast = {"NEVERSTALE_MONGODB__URI": uri, "NEVERSTALE_MONGODB__SERVER_SELECTION_TIMEOUT_MS": "500"}
            [finding] = [
                one
                for one in await Patient(patient.environ | fast, patient.catalog).findings("replica-set")
                if one.level == "problem"
            ]
            assert finding.name == name and finding.remedy
    finally:
        alone.kill()
