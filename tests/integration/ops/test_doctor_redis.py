"""`neverstale doctor` and a real Redis that is set up badly in every way: each is said, and the remedies help."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from neverstale.catalog import Catalog
from neverstale.ops.doctor import known_bad
from neverstale.ops.doctor.connections import to_redis
from neverstale.ops.doctor.known_bad import Bad
from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from neverstale.ops.status import gather
from tests.conftest import have
from tests.support.stack import run
from tests.worlds.doctored import Patient, execute, levels, paste, provokes

CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})
OF_REDIS = ("memory", "persistence", "replicas", "pubsub", "connections", "exposure")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started: list[RedisServer] = []

    def start() -> str:
        started.append(run(start_redis(RedisOptions(data=tmp_path_factory.mktemp("doctored")))))
        return started[0].url

    have(start)
    yield started[0]
    started[0].kill()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(server.url)
    yield client
    await client.aclose()


@pytest.fixture
def patient(mongo_uri: str, kafka_servers: str, topic: str, server: RedisServer) -> Patient:
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_REDIS__URL": server.url,
    }
    return Patient(environ, CATALOG)


@provokes(
    "connections-short",
    "snapshots-too-old",
    "subscribers-cut",
    "too-few-replicas",
    "redis-open",
    "full",
    "noeviction",
)
async def test_all_that_is_wrong_with_a_redis_is_said_and_the_lines_to_paste_mend_it(
    patient: Patient, redis: Redis
) -> None:
    await patient.show_cards(redis, "api", "api", "consumer", "watcher")
    for name, value in (
        ("maxclients", "100"),
        ("save", "86400 1"),
        ("client-output-buffer-limit", "pubsub 1048576 262144 60"),
        ("min-replicas-to-write", "1"),
        ("protected-mode", "no"),
        ("bind", "127.0.0.1 -192.0.2.1"),  # which no machine has, and Redis goes on without
        ("maxmemory", "1mb"),
        ("maxmemory-policy", "noeviction"),
    ):
        await redis.config_set(name, value)
    found = await patient.findings(*OF_REDIS)
    assert levels(found) == {
        ("connections", "problem"),
        ("persistence", "warning"),
        ("pubsub", "warning"),
        ("replicas", "problem"),
        ("exposure", "problem"),
        ("memory", "problem"),
        ("memory", "warning"),
    }
    assert all(one.remedy for one in found)
    await paste(redis, found)
    await redis.config_set("maxmemory", "0")
    assert await patient.findings(*OF_REDIS) == []


@provokes("replica-behind", "disk-waits")
async def test_a_replica_that_follows_is_right_and_one_that_does_not_is_said_as_is_a_disk_that_all_wait_for(
    patient: Patient, redis: Redis, tmp_path_factory: pytest.TempPathFactory, server: RedisServer
) -> None:
    options = RedisOptions(data=tmp_path_factory.mktemp("replica"), replica_of=server.port, name="replica")

    async def state() -> str | None:
        told: dict[str, Any] = (await redis.info("replication")).get("slave0", {})
        return told.get("state")

    await redis.config_set("repl-diskless-sync-delay", "3600")
    async with await start_redis(options) as replica, Redis.from_url(replica.url) as follower:
        await follower.config_set("repl-ping-replica-period", "3600")
        while await state() is None:
            await redis.ping()
        [finding] = await patient.findings("replicas")
        assert finding.level == "warning" and f"127.0.0.1:{replica.port} is behind" in finding.message
        await redis.config_set("repl-diskless-sync-delay", "0")
        while await state() != "online":
            await redis.ping()
        assert await patient.findings("replicas") == []
        await redis.config_set("appendonly", "yes")
        await redis.config_set("appendfsync", "always")
        [finding] = await patient.findings("persistence")
        assert "every write waits for the disk" in finding.message
        await paste(redis, [finding])
        await redis.config_set("appendonly", "no")
    assert await patient.findings("persistence") == []


@provokes("memory-above-machine", "volatile-ttl", "connections-close", "redis-is-replica")
async def test_a_redis_that_will_do_until_it_is_full_or_until_it_is_asked_to_write_is_said(
    patient: Patient, redis: Redis, server: RedisServer
) -> None:
    await patient.show_cards(redis)
    ours = to_redis((await gather(patient.settings, CATALOG)).roles, patient.settings)
    for name, value in (
        ("maxmemory", f"{1 << 50}"),
        ("maxmemory-policy", "volatile-ttl"),
        ("maxclients", f"{ours * 10 // 9}"),
    ):
        await redis.config_set(name, value)
    found = await patient.findings("memory", "connections")
    assert {one.name for one in found} == {"memory-above-machine", "volatile-ttl", "connections-close"}
    await paste(redis, found)
    await redis.config_set("maxmemory", "0")
    assert await patient.findings("memory", "connections") == []
    await execute(redis, "REPLICAOF", "127.0.0.1", f"{free_port()}")
    [finding] = await patient.findings("reachable")
    await execute(redis, "REPLICAOF", "NO", "ONE")
    assert finding.name == "redis-is-replica" and "PRIMARY:6379" in finding.remedy


@provokes("disk-refuses")
async def test_a_snapshot_that_failed_is_said_while_it_stops_writes_and_no_longer(
    patient: Patient, redis: Redis, server: RedisServer
) -> None:
    await redis.set("ns:kept", "x")
    await redis.config_set("stop-writes-on-bgsave-error", "yes")
    await redis.config_set("save", "3600 1")
    await redis.config_set("rdb-key-save-delay", "10000000")
    await redis.bgsave()
    for child in psutil.Process(server.pid).children():
        child.kill()
    while (await redis.info("persistence"))["rdb_last_bgsave_status"] != "err":
        pass
    await redis.config_set("rdb-key-save-delay", "0")
    with pytest.raises(ResponseError, match="MISCONF"):
        await redis.set("ns:kept", "y")
    [finding] = await patient.findings("persistence")
    assert finding.level == "problem"
    await paste(redis, [finding])
    await redis.set("ns:kept", "z")
    assert await patient.findings("persistence") == []
    await redis.bgsave()
    while (await redis.info("persistence"))["rdb_last_bgsave_status"] != "ok":
        pass


@provokes("no-script-flags")
async def test_the_oldest_redis_with_a_limit_of_memory_is_said(patient: Patient, old_redis_url: str) -> None:
    old = Patient(patient.environ | {"NEVERSTALE_REDIS__URL": old_redis_url}, CATALOG)
    async with Redis.from_url(old_redis_url) as redis:
        await redis.config_set("maxmemory", "100mb")
        found = await old.findings("memory")
        await redis.config_set("maxmemory", "0")
    assert "no-script-flags" in {one.name for one in found}


async def test_the_oldest_redis_tells_as_much(patient: Patient, old_redis_url: str) -> None:
    old = Patient(patient.environ | {"NEVERSTALE_REDIS__URL": old_redis_url}, CATALOG)
    found = await old.found(*OF_REDIS)
    assert {one.check for one in found} == set(OF_REDIS)
    assert not any(one.level in ("unknown", "problem") for one in found)


async def test_a_version_that_is_known_to_be_bad_is_named_with_the_first_that_is_not(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = (
        Bad("redis", (0,), (99, 1), "problem", "it forgets"),
        Bad("mongodb", (0,), (99, 2), "warning", "it tells"),
    )
    monkeypatch.setattr(known_bad, "KNOWN_BAD", worst)
    mongodb, redis = await patient.findings("versions")
    assert (mongodb.subject, mongodb.level) == ("mongodb", "warning") and mongodb.message.endswith(": it tells")
    assert (redis.subject, redis.level) == ("redis", "problem") and redis.remedy.startswith("run 99.1 or later")


async def test_a_user_who_may_not_look_hears_what_could_not_be_looked_at_and_all_the_rest(
    patient: Patient, redis: Redis, server: RedisServer
) -> None:
    rules = "on >s3cret ~ns:* &ns:* +@all -@admin -@dangerous +info"
    await execute(redis, "ACL", "SETUSER", "neverstale", *rules.split())
    try:
        url = server.url.replace("redis://", "redis://neverstale:s3cret@")
        found = await Patient(patient.environ | {"NEVERSTALE_REDIS__URL": url}, CATALOG).findings(*OF_REDIS)
    finally:
        await execute(redis, "ACL", "DELUSER", "neverstale")
    assert levels(found) == {("persistence", "unknown")}
    assert "s3cret" not in str(found) and '"$NEVERSTALE_REDIS__URL"' in found[0].remedy
