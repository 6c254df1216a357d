"""`neverstale doctor` and servers that cannot be had here: real ones whose answers are edited on their way."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo.uri_parser import parse_uri

from neverstale.catalog import Catalog
from neverstale.kafka.topic import is_embedded
from neverstale.ops.check.findings import Finding
from neverstale.ops.check.kafka import check_kafka
from neverstale.ops.stack.ports import free_port
from tests.support.edited import Document, KafkaAnswers, MongoAnswers, RedisAnswers, edited
from tests.worlds.doctored import Patient, noted, provokes

LATER_MS = 5000
OF_A_SET = ("setName", "setVersion", "electionId", "hosts", "primary", "me", "secondary", "topologyVersion")


@pytest.fixture
def patient(
    mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str, database: str
) -> Patient:
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_MONGODB__SERVER_SELECTION_TIMEOUT_MS": "1000",
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_REDIS__URL": redis_url,
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
    }
    catalog = Catalog.model_validate({"database": database, "resources": {"flights": {"key_type": "string"}}})
    return Patient(environ, catalog)


def as_set(ports: list[int], answer: Document) -> None:
    """The first port is the primary's, and nobody hears of the real one."""
    if "setName" in answer and "hosts" in answer:
        answer["hosts"] = [f"127.0.0.1:{port}" for port in ports]
        answer["primary"] = answer["me"] = answer["hosts"][0]


def as_mongos(ports: list[int], answer: Document) -> None:
    if "setName" in answer:
        for name in OF_A_SET:
            answer.pop(name, None)
        answer["msg"] = "isdbgrid"


def as_version(version: str, ports: list[int], answer: Document) -> None:
    as_set(ports, answer)
    if "gitVersion" in answer:
        answer["version"] = version


def as_open_to_all(ports: list[int], answer: Document) -> None:
    as_set(ports, answer)
    if "parsed" in answer:
        answer["parsed"]["net"]["bindIp"] = "127.0.0.1,192.0.2.1"


def as_unreachable(ports: list[int], answer: Document) -> None:
    as_set([free_port()], answer)


def as_late_member(ports: list[int], answer: Document) -> None:
    """The second of two: it follows, and its clock is ahead."""
    as_set(ports, answer)
    if "me" in answer:
        answer |= {"me": f"127.0.0.1:{ports[1]}", "isWritablePrimary": False, "ismaster": False, "secondary": True}
        answer["localTime"] = type(answer["localTime"])(int(answer["localTime"]) + LATER_MS)


Edit = Callable[[list[int], Document], None]


@asynccontextmanager
async def answering(patient: Patient, *edits: Edit, options: str = "") -> AsyncIterator[Patient]:
    """The same MongoDB as a set of so many members, each of which answers in its own way."""
    [(_, target)] = parse_uri(patient.environ["NEVERSTALE_MONGODB__URI"])["nodelist"]
    ports: list[int] = []
    async with edited(target, lambda: MongoAnswers(partial(edits[0], ports))) as first:
        ports.append(first)
        async with edited(target, lambda: MongoAnswers(partial(edits[-1], ports))) as second:
            ports += [second] if len(edits) > 1 else []
            uri = f"mongodb://127.0.0.1:{first}/?heartbeatFrequencyMS=500{options}"
            yield Patient(patient.environ | {"NEVERSTALE_MONGODB__URI": uri}, patient.catalog)


@provokes("sharded", "too-old", "known-bad", "no-wall-times", "mongodb-open", "members-unreachable", "member-clock")
async def test_each_mongodb_that_is_not_as_it_should_be_is_said_with_its_remedy(patient: Patient) -> None:
    named = "&replicaSet=rs0"
    cases: list[tuple[str, str, tuple[Edit, ...], set[str]]] = [
        ("replica-set", "", (as_mongos,), {"sharded"}),
        ("versions", named, (partial(as_version, "4.4.29"),), {"too-old"}),
        ("versions", named, (partial(as_version, "5.0.2"),), {"known-bad", "no-wall-times"}),
        ("exposure", named, (as_open_to_all,), {"mongodb-open"}),
        ("reachable", named, (as_unreachable,), {"members-unreachable"}),
        ("clocks", named, (as_set, as_late_member), {"member-clock"}),
    ]
    for check, options, edits, names in cases:
        async with answering(patient, *edits, options=options) as spoilt:
            found = of_subject(await spoilt.findings(check), "mongodb")
        assert {one.name for one in found} == names, (check, found)
        assert all(one.remedy for one in found)


def of_subject(findings: list[Finding], subject: str) -> list[Finding]:
    return [one for one in findings if one.subject == subject]


def padded(pattern: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """Puts a number in the place of another one, with zeros before it so that nothing moves."""

    def edit(data: bytes) -> bytes:
        return re.sub(pattern, lambda found: found[1] + value.rjust(len(found[2]), b"0"), data)

    return edit


@provokes("too-old", "known-bad", "redis-is-cluster", "memory-unlimited")
async def test_each_redis_that_is_not_as_it_should_be_is_said_with_its_remedy(patient: Patient) -> None:
    cases: list[tuple[str, bytes, bytes, str]] = [
        ("versions", rb"(redis_version:)(\d+\.\d+\.\d+)", b"6.0.9", "too-old"),
        ("versions", rb"(redis_version:)(\d+\.\d+\.\d+)", b"7.4.1", "known-bad"),
        ("reachable", rb"(cluster_enabled:)(\d)", b"1", "redis-is-cluster"),
        ("memory", rb"(total_system_memory:)(\d+)", b"1000", "memory-unlimited"),
    ]
    url = urlsplit(patient.environ["NEVERSTALE_REDIS__URL"])
    for check, pattern, value, name in cases:
        async with edited(url.port or 0, partial(RedisAnswers, padded(pattern, value))) as port:
            environ: dict[str, Any] = {"NEVERSTALE_REDIS__URL": f"redis://127.0.0.1:{port}/0"}
            found = of_subject(await Patient(patient.environ | environ, patient.catalog).findings(check), "redis")
        assert name in {one.name for one in found}, (check, found)
        assert all(one.remedy for one in found)


@dataclass
class Brokers:
    """Three where there is one, and topics that they hold together."""

    port: int = 0
    replicas: tuple[int, ...] = (1, 2, 3)
    in_sync: tuple[int, ...] = (1, 2, 3)
    leader: int | None = None
    """`None`: whoever leads it."""

    def say(self, said: Any) -> None:
        [(_, host, _, *more)] = said.brokers
        said.brokers = [(number, host, self.port, *more) for number in (1, 2, 3)]
        said.topics = [(*topic[:-1], [self._partition(*one) for one in topic[-1]]) for topic in said.topics]

    def _partition(self, error: int, number: int, leader: int, _: Any, __: Any, *more: Any) -> Any:
        led = leader if self.leader is None else self.leader
        return (error, number, led, list(self.replicas), list(self.in_sync), *more)


@provokes("leaderless", "not-in-sync", "few-replicas", "one-replica", "min-isr-all", "min-isr-one")
async def test_topics_that_a_broker_would_take_with_it_or_stop_are_said(
    patient: Patient, kafka_servers: str, topic: str
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    try:
        if await is_embedded(admin):
            pytest.skip("the embedded broker has no configurations")
        configs = (("all", "3"), ("one", "1"), ("two", "2"))
        kept = {"retention.ms": str(patient.settings.kafka.retention_ms)}
        await admin.create_topics(
            [
                NewTopic(f"{topic}.{name}", 4, 1, topic_configs=kept | {"min.insync.replicas": least})
                for name, least in configs
            ]
        )
    finally:
        await admin.close()
    one = (1,)
    cases: list[tuple[Brokers, str, int, str]] = [
        (Brokers(), "all", 3, "min-isr-all"),
        (Brokers(), "one", 3, "min-isr-one"),
        (Brokers(in_sync=(1, 2)), "two", 3, "not-in-sync"),
        (Brokers(leader=-1), "two", 3, "leaderless"),
        (Brokers(replicas=one, in_sync=one), "one", 1, "one-replica"),
        (Brokers(replicas=one, in_sync=one), "one", 3, "few-replicas"),
    ]
    for brokers, name, factor, expected in cases:
        async with edited(int(kafka_servers.rpartition(":")[2]), partial(KafkaAnswers, brokers.say)) as port:
            brokers.port = port
            spoilt = {
                "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
                "NEVERSTALE_KAFKA__TOPIC": f"{topic}.{name}",
                "NEVERSTALE_KAFKA__REPLICATION_FACTOR": f"{factor}",
            }
            found = noted(await check_kafka(Patient(patient.environ | spoilt, patient.catalog).settings))
        names = {one.name for one in found if one.level != "ok"}
        assert names - {"topic-not-creatable"} == {expected}  # that of dead letters: there is one real broker
        assert all(one.remedy for one in found if one.level != "ok")
