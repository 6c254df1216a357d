"""`neverstale status` against real servers."""

import json
import time
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis import Redis

from neverstale.catalog import Catalog
from neverstale.keys import Names
from neverstale.ops.stack.ports import free_port
from neverstale.ops.status import NEEDED, Status, gather
from neverstale.ops.status_tables import print_status
from neverstale.redis.corrections import Corrections
from neverstale.redis.partition_counts import note
from neverstale.servers import redis_client
from neverstale.settings import Settings
from neverstale.settings.sources import load
from neverstale.versions import to_hex

CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})


@pytest.fixture
def settings(mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str) -> Settings:
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_KAFKA__GROUP": topic,
        "NEVERSTALE_REDIS__URL": redis_url,
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
    }
    return load(environ)[0]


def by_name(status: Status) -> dict[str, Any]:
    return {server.name: server for server in status.servers}


async def test_the_servers_say_what_they_are(settings: Settings) -> None:
    status = await gather(settings, CATALOG)
    servers = by_name(status)
    assert all(server.problem is None for server in status.servers)
    assert servers["mongodb"].facts.keys() == {"version", "primary"}
    assert servers["kafka"].facts["topic"] == "none yet"
    assert servers["redis"].facts.keys() == {"version", "memory", "identity"}


async def test_before_the_first_role_everything_is_unknown(settings: Settings) -> None:
    status = await gather(settings, CATALOG)
    assert (status.roles, status.partitions) == ([], [])
    assert status.problems == ["no watcher runs", "no consumer runs", "no api runs"]
    assert [(r.name, r.version) for r in status.registers] == [("applied", None), ("floor flights", None)]


async def test_a_role_shows_itself_by_its_card(settings: Settings, redis_url: str) -> None:
    card = {
        "role": "watcher",
        "instance": "h-1",
        "pid": 1,
        "host": "h",
        "url": "http://h:1",
        "started_ms": 5,
        "version": "1",
    }
    with Redis.from_url(redis_url) as redis:
        redis.set(
            Names(settings.redis.prefix).role("watcher", "h-1"), orjson.dumps(card | {"from a later version": 1})
        )
    [role] = (await gather(settings, CATALOG)).roles
    assert (role.role, role.instance, role.url) == ("watcher", "h-1", "http://h:1")


async def test_registers_that_are_being_established_are_still_unknown(settings: Settings, redis_url: str) -> None:
    names = Names(settings.redis.prefix)
    with Redis.from_url(redis_url) as redis:
        redis.set(names.applied, "?0123456789abcdef:0000000000000000")
        redis.set(names.floor("flights"), to_hex(7))
    registers = {r.name: r.version for r in (await gather(settings, CATALOG)).registers}
    assert registers == {"applied": None, "floor flights": to_hex(7)}


async def test_watermarks_count_only_on_the_redis_that_they_were_applied_on(settings: Settings) -> None:
    now_ms = int(time.time() * 1000)
    client = redis_client(settings.redis, timeout_ms=2000)
    try:
        cache = Corrections(client, Names(settings.redis.prefix))
        identity = await cache.identity()
        await cache.set_watermarks(settings.kafka.group, identity, 3, {0: (7, now_ms - 1500)})
        await cache.set_watermarks(settings.kafka.group, "another", 3, {1: (9, now_ms)})
    finally:
        await client.aclose()
    partitions = (await gather(settings, CATALOG)).partitions
    assert [(p.partition, p.watermark) for p in partitions] == [(0, to_hex(7)), (1, None), (2, None)]
    assert partitions[0].age_ms is not None and 1500 <= partitions[0].age_ms < 30_000


async def test_in_one_redis_each_cell_is_as_far_as_its_own_watermark(settings: Settings) -> None:
    """In a cluster, too: `test_cells`."""
    redis = settings.redis.model_copy(update={"cells": "partition"})
    declared = {"key_type": "string", "counters": {"all": {}}}
    catalog = Catalog.model_validate({"database": "nyc", "resources": {"flights": declared}})
    now_ms, group = int(time.time() * 1000), settings.kafka.group
    client = redis_client(settings.redis, timeout_ms=2000)
    try:
        names = Names(redis.prefix)
        marks = {0: (7, now_ms), 1: (9, now_ms - 60_000)}
        for tag, own in (("default.2.0", {0: marks[0]}), ("default.2.1", {1: marks[1]}), ("flights", marks)):
            cache = Corrections(client, names.cell(tag))
            await cache.set_watermarks(group, await cache.identity(), 2, own)
        await note(Corrections(client, names), "default", {0: (2, 7), 1: (2, 9)})
    finally:
        await client.aclose()
    status = await gather(settings.model_copy(update={"redis": redis}), catalog)
    assert [(one.cell, one.watermark, one.without) for one in status.cells] == [
        ("default.2.0", to_hex(7), ()),
        ("default.2.1", to_hex(9), ()),
        ("flights", to_hex(7), ()),
    ]
    assert [one.watermark for one in status.partitions] == [to_hex(7), to_hex(9)]
    assert {(one.cell, one.name) for one in status.registers} >= {
        ("default.2.1", "floor flights"),
        ("flights", "applied"),
    }
    assert [one for one in status.problems if "stands" in one] == [
        "the watermark of partition 1 stands, 1 min old",
        "the watermark of what is derived of flights stands, 1 min old",
    ]


async def test_a_watermark_that_stands_is_a_problem_beside_one_that_moves(settings: Settings) -> None:
    now_ms = int(time.time() * 1000)
    client = redis_client(settings.redis, timeout_ms=2000)
    try:
        cache = Corrections(client, Names(settings.redis.prefix))
        for role in NEEDED:
            card = {
                "role": role,
                "instance": "h-1",
                "pid": 1,
                "host": "h",
                "url": "",
                "started_ms": 5,
                "version": "1",
            }
            await client.set(cache.names.role(role, "h-1"), orjson.dumps(card))
        marks = {0: (7, now_ms), 1: (7, now_ms - 60_000)}
        await cache.set_watermarks(settings.kafka.group, await cache.identity(), 2, marks)
    finally:
        await client.aclose()
    status = await gather(settings, CATALOG)
    assert not status.ok
    [problem] = status.problems
    assert problem.startswith("the watermark of partition 1 stands, ")


async def test_lag_is_what_was_published_and_not_committed(settings: Settings) -> None:
    await publish(settings, partition=0, count=5)
    await commit(settings, partition=0, offset=2)
    partitions = (await gather(settings, CATALOG)).partitions
    assert [(p.partition, p.lag) for p in partitions[:2]] == [(0, 3), (1, None)]


async def test_a_server_that_is_down_is_a_line_and_not_a_traceback(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    away = load(
        {
            "NEVERSTALE_MONGODB__URI": f"mongodb://me:s3cret@127.0.0.1:{port}/?replicaSet=rs0",
            "NEVERSTALE_MONGODB__SERVER_SELECTION_TIMEOUT_MS": "300",
            "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
            "NEVERSTALE_REDIS__URL": settings.redis.url.get_secret_value(),
        }
    )[0]
    status = await gather(away, CATALOG)
    assert not status.ok
    assert [(s.name, s.problem is None) for s in status.servers] == [
        ("mongodb", False),
        ("kafka", False),
        ("redis", True),
    ]
    print_status(status, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["kafka", "down", "no", "broker", "accepts", "a", "connection"] for line in lines)
    assert "s3cret" not in str(lines)


async def test_the_answer_in_json_has_the_same_parts(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    print_status(await gather(settings, CATALOG), as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == {
        "ok",
        "servers",
        "roles",
        "all_roles",
        "partitions",
        "cells",
        "nodes",
        "registers",
        "problems",
        "audit",
    }


async def publish(settings: Settings, partition: int, count: int) -> None:
    servers, topic = settings.kafka.bootstrap_servers, settings.kafka.topic
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.describe_topics([topic])  # The embedded broker creates what is asked for, with 4 partitions.
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, 4, 1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for number in range(count):
            await producer.send_and_wait(topic, b"%d" % number, partition=partition)


async def commit(settings: Settings, partition: int, offset: int) -> None:
    place = TopicPartition(settings.kafka.topic, partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers, group_id=settings.kafka.group, enable_auto_commit=False
    )
    consumer.assign([place])
    async with consumer:
        await consumer.commit({place: offset})


@pytest.mark.parametrize("value", [b"", b"\xff", b"null", b"[]", b'{"role":', b'{"role":5}', b"f" * 16, b"?"])
async def test_what_a_neighbour_has_written_is_no_state_of_ours(
    settings: Settings, redis_url: str, value: bytes
) -> None:
    names = Names(settings.redis.prefix)
    with Redis.from_url(redis_url) as redis:
        redis.set(names.role("watcher", "forged"), value)
        redis.lpush(names.role("api", "forged"), value)
        redis.set(names.applied, value)
        redis.lpush(names.floor("flights"), value)
        redis.hset(names.watermarks(settings.kafka.group), mapping={"partitions": value, "0": value, value: value})
    status = await gather(settings, CATALOG)
    assert (status.roles, status.partitions) == ([], [])
    assert all(register.version in (None, "f" * 16) for register in status.registers)
    print_status(status, as_json=False)
