"""`neverstale check` against real servers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from redis import Redis

from neverstale.catalog import Catalog
from neverstale.ops.check.check import check
from neverstale.ops.check.findings import Finding
from neverstale.ops.check.kafka import check_kafka
from neverstale.ops.check.redis import check_redis
from neverstale.ops.stack.ports import free_port
from neverstale.settings.sources import load
from tests.worlds.doctored import noted, provokes

FAST = {"NEVERSTALE_MONGODB__SERVER_SELECTION_TIMEOUT_MS": "500"}


@pytest.fixture
def environ(mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str) -> dict[str, str]:
    return {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_REDIS__URL": redis_url,
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
    }


@pytest.fixture
async def documents(mongo_uri: str, database: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        yield client[database]


def catalog(database: str, **flights: str) -> Catalog:
    resource = {"key_type": "string"} | flights
    return Catalog.model_validate({"database": database, "resources": {"flights": resource}})


async def problems(environ: dict[str, str], catalog: Catalog) -> list[Finding]:
    """What is found that is not well."""
    settings, _ = load(environ)
    return [finding for finding in noted(await check(settings, catalog)) if finding.level != "ok"]


async def test_nothing_is_wrong_with_a_prepared_pipeline(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.flights.insert_one({"_id": "2013-02-04:UA650:LGA"})
    settings, _ = load(environ)
    findings = await check(settings, catalog(documents.name))
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.subject for finding in findings} == {"catalog", "mongodb", "kafka", "redis", "settings"}


@provokes("no-collection")
async def test_a_missing_collection_is_a_problem_that_names_the_likely_one(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.create_collection("flights")
    [finding] = await problems(environ, catalog(documents.name, collection="flihgts"))
    assert finding.message == f"there is no collection {documents.name}.flihgts"
    assert finding.remedy.startswith("did you mean flights?")


@pytest.mark.parametrize(
    ("options", "sentence", "remedy"),
    [
        ({"viewOn": "all", "pipeline": []}, "is a view", "the collection behind it"),
        ({"capped": True, "size": 4096}, "is capped", "ordinary collection"),
        ({"timeseries": {"timeField": "t"}}, "is a time series", "ordinary collection"),
    ],
)
@provokes("nothing-tells")
async def test_what_nothing_tells_of_is_a_problem(
    environ: dict[str, str],
    documents: AsyncDatabase[dict[str, Any]],
    options: dict[str, Any],
    sentence: str,
    remedy: str,
) -> None:
    await documents.create_collection("flights", **options)
    [finding] = await problems(environ, catalog(documents.name))
    assert finding.level == "problem" and sentence in finding.message
    assert remedy in finding.remedy


@provokes("other-keys")
async def test_documents_with_another_type_of_id_are_a_warning(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.flights.insert_one({"_id": ObjectId()})
    [finding] = await problems(environ, catalog(documents.name))
    assert finding.level == "warning" and "ObjectId" in finding.message and "key_type says string" in finding.remedy


@provokes("mixed-keys")
async def test_documents_of_several_types_of_id_are_a_warning_wherever_they_lie(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.flights.insert_many([{"_id": "a"}, {"_id": 1}, {"_id": "b"}])
    for _ in range(2):
        [finding] = await problems(environ, catalog(documents.name))
        assert finding.check == "collections" and "mixes types of _id" in finding.message
        assert finding.remedy.startswith("mongosh ")
        await documents.flights.delete_one({"_id": 1})
        await documents.flights.insert_one({"_id": ObjectId()})


async def test_an_empty_collection_is_no_warning(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.create_collection("flights")
    assert await problems(environ, catalog(documents.name)) == []


@contextmanager
def refused(mongo_uri: str, command: str, code: int = 13, mode: Any = "alwaysOn") -> Iterator[None]:
    """The server refuses one command to neverstale; by the default as it does to a user without the privilege."""
    data = {"failCommands": [command], "errorCode": code, "appName": "neverstale/0.1.0"}
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
        try:
            yield
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize(
    ("command", "sentence", "grant"),
    [
        ("find", "may not read {}.flights", 'grant find on {{db: "{}", collection: "flights"}}'),
        (
            "update",
            "may not write to {}.neverstale.control",
            'grant readWrite on {{db: "{}", collection: "neverstale.control"}}',
        ),
        ("aggregate", "may not open a change stream on {}", 'grant find and changeStream on {{db: "{}"'),
    ],
)
@provokes("rights-too-narrow")
async def test_a_missing_privilege_is_named(
    environ: dict[str, str],
    documents: AsyncDatabase[dict[str, Any]],
    mongo_uri: str,
    command: str,
    sentence: str,
    grant: str,
) -> None:
    await documents.create_collection("flights")
    with refused(mongo_uri, command):
        [finding] = await problems(environ, catalog(documents.name))
    assert finding.message.endswith(sentence.format(documents.name))
    assert finding.remedy.startswith(grant.format(documents.name))


REFERRING = {"key_type": "string", "refs": {"carrier": {"to": "flights"}}, "lists": {"all": {"by": ["day"]}}}
FINDS_BEFORE_REFERENCES = 3
"""Both ends of the `_id`s, and a document to explain queries for."""


@provokes("reads-refused", "not-explained", "references-unread", "reference-no-key")
async def test_what_is_refused_while_it_is_looked_at_is_said_and_so_are_references_to_nothing(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]], mongo_uri: str
) -> None:
    await documents.flights.insert_one({"_id": "a", "day": 1, "carrier": 7})
    declared = Catalog.model_validate({"database": documents.name, "resources": {"flights": REFERRING}})
    assert "reference-no-key" in {one.name for one in await problems(environ, declared)}
    for command, code, mode, name in (
        ("find", 246, "alwaysOn", "reads-refused"),
        ("explain", 8000, "alwaysOn", "not-explained"),
        ("find", 8000, {"skip": FINDS_BEFORE_REFERENCES}, "references-unread"),
    ):
        with refused(mongo_uri, command, code, mode):
            found: dict[str, Finding] = {one.name: one for one in await problems(environ, declared)}
        assert found[name].level == "problem" and found[name].remedy


async def test_checking_creates_nothing(environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]]) -> None:
    await documents.create_collection("flights")
    await problems(environ, catalog(documents.name))
    assert await documents.list_collection_names() == ["flights"]


@provokes("another-set")
async def test_another_name_of_the_replica_set_is_told_from_silence(environ: dict[str, str], database: str) -> None:
    settings, _ = load({**environ, **FAST})
    uri = settings.mongodb.uri.get_secret_value().split("?")[0] + "?replicaSet=another"
    found = await problems({**environ, **FAST, "NEVERSTALE_MONGODB__URI": uri}, catalog(database))
    assert [f.message for f in found] == ["the replica set is rs0, but the connection string says another"]


@provokes("login-refused")
async def test_a_wrong_password_of_mongodb_is_a_problem(environ: dict[str, str], database: str) -> None:
    uri = environ["NEVERSTALE_MONGODB__URI"].replace("mongodb://", "mongodb://nobody:s3cret@")
    found = await problems({**environ, **FAST, "NEVERSTALE_MONGODB__URI": uri}, catalog(database))
    assert [one.message for one in found] == ["it refuses user or password"] and "s3cret" not in str(found)


@provokes("no-answer")
async def test_servers_that_are_away_are_three_problems_and_no_traceback() -> None:
    port = free_port()
    environ = {
        "NEVERSTALE_MONGODB__URI": f"mongodb://me:s3cret@127.0.0.1:{port}/?replicaSet=rs0",
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "NEVERSTALE_REDIS__URL": f"redis://:s3cret@127.0.0.1:{port}/0",
    }
    found = await problems(environ | FAST, catalog("nyc"))
    assert [(f.subject, f.level) for f in found] == [(s, "problem") for s in ("mongodb", "kafka", "redis")]
    assert "s3cret" not in str(found)


@provokes("lease-too-short", "keys-unreadable", "nobody-can-read", "open-to-everybody", "exposed")
async def test_settings_that_let_everybody_in_or_nobody_are_said_beside_what_servers_say(
    environ: dict[str, str], documents: AsyncDatabase[dict[str, Any]], tmp_path: Path
) -> None:
    await documents.flights.insert_one({"_id": "a"})
    await documents.secrets.insert_one({"_id": "a"})
    resources = {"flights": {"key_type": "string"}, "secrets": {"key_type": "string", "public": False}}
    declared = Catalog.model_validate({"database": documents.name, "resources": resources})
    spoilt = environ | {
        "NEVERSTALE_API__LEASE_MS": "1500",
        "NEVERSTALE_API__HOST": "0.0.0.0",
        "NEVERSTALE_REDIS__URL": environ["NEVERSTALE_REDIS__URL"].replace("127.0.0.1", "0.0.0.0"),
    }
    found = await problems(spoilt, declared)
    assert {one.name for one in found} == {"lease-too-short", "nobody-can-read", "open-to-everybody", "exposed"}
    unreadable = environ | {"NEVERSTALE_CALLERS__KEYS_FILE": str(tmp_path / "none.json")}
    [finding] = await problems(unreadable, declared)
    assert finding.name == "keys-unreadable" and "none.json" in finding.message


async def test_the_partitions_of_a_topic_are_counted(environ: dict[str, str], kafka_servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    try:
        await admin.describe_topics([topic])  # The embedded broker creates what is asked for, with 4 partitions.
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, 4, 1)])
    finally:
        await admin.close()
    settings, _ = load(environ | {"NEVERSTALE_KAFKA__PARTITIONS": "3"})
    messages = [finding.message for finding in await check_kafka(settings)]
    assert any("has 4 partitions, not 3" in message for message in messages)


@provokes("rights-too-narrow")
async def test_a_redis_user_without_scripts_is_a_problem(
    environ: dict[str, str], redis_url: str, redis_prefix: str, documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.create_collection("flights")
    with Redis.from_url(redis_url) as redis:
        redis.acl_setuser(
            redis_prefix, enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all", "-evalsha"]
        )
        try:
            url = redis_url.replace("redis://", f"redis://{redis_prefix}:s3cret@")
            [finding] = await problems(environ | {"NEVERSTALE_REDIS__URL": url}, catalog(documents.name))
        finally:
            redis.acl_deluser(redis_prefix)
    assert finding.message == "cannot be used: the user may not do this" and "ACL SETUSER" in finding.remedy


async def test_a_wrong_redis_password_is_a_problem(
    environ: dict[str, str], redis_url: str, documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.create_collection("flights")
    url = redis_url.replace("redis://", "redis://nobody:s3cret@")
    [finding] = await problems(environ | {"NEVERSTALE_REDIS__URL": url}, catalog(documents.name))
    assert finding.message.startswith("cannot be used: it refuses user or password")


@provokes("redis-is-no-cluster")
async def test_a_redis_that_is_named_as_a_cluster_and_is_none_is_a_problem(
    environ: dict[str, str], redis_url: str
) -> None:
    named = redis_url.replace("redis://", "redis+cluster://").removesuffix("/0")
    settings, _ = load(environ | {"NEVERSTALE_REDIS__URL": named})
    [finding] = noted(await check_redis(settings.redis))
    assert finding.level == "problem" and "redis://HOST:6379/0" in finding.remedy


async def test_the_oldest_redis_is_good_enough(
    environ: dict[str, str], old_redis_url: str, documents: AsyncDatabase[dict[str, Any]]
) -> None:
    await documents.create_collection("flights")
    assert await problems(environ | {"NEVERSTALE_REDIS__URL": old_redis_url}, catalog(documents.name)) == []
