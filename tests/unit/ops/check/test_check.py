"""What `neverstale check` says of what the servers tell it."""

from typing import Any

import pytest

from neverstale.catalog import Catalog
from neverstale.settings import Kafka, Settings
from neverstale.settings_sources import load
from ops.check import kafka as check_kafka
from ops.check import mongodb as check_mongodb
from ops.check import redis as check_redis
from ops.check.check import check
from ops.check.findings import Finding
from ops.servers import KafkaFacts, MongoFacts, RedisFacts

CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})


def levels(findings: Any) -> list[str]:
    return [finding.level for finding in findings]


def mongo(version: str = "8.0.23", set_name: str | None = "rs0", is_mongos: bool = False) -> list[Finding]:
    return list(check_mongodb.judge(MongoFacts(version, set_name, is_mongos, "h:27017")))


def redis(version: str = "8.2.9", max_bytes: int = 0, policy: str = "noeviction", **facts: Any) -> list[Finding]:
    known: dict[str, Any] = {"role": "master", "is_cluster": False, "used_bytes": 1} | facts
    return list(check_redis.judge(RedisFacts(version=version, max_bytes=max_bytes, policy=policy, **known)))


def kafka(brokers: int, replicas: dict[int, int] | None, **settings: Any) -> list[Finding]:
    return list(check_kafka.judge(KafkaFacts(brokers, replicas), Kafka(**settings)))


def test_a_replica_set_and_a_sharded_cluster_are_both_right() -> None:
    assert levels(mongo()) == ["ok"]
    assert levels(mongo(set_name=None, is_mongos=True)) == ["ok"]


def test_a_server_without_snapshot_reads_is_a_problem() -> None:
    assert mongo("4.4.29")[0] == Finding("mongodb", "problem", "the server is 4.4.29", "run MongoDB 5.0 or later")


def test_a_server_without_wall_times_is_a_warning() -> None:
    assert levels(mongo("5.0.31")) == ["warning", "ok", "ok"]


def test_a_standalone_server_is_a_problem_with_a_remedy() -> None:
    [finding] = mongo(set_name=None)
    assert finding.level == "problem" and "--replSet rs0" in finding.remedy


@pytest.mark.parametrize(
    ("hello", "sentence"),
    [
        ({"isreplicaset": True}, "the replica set was never initiated"),
        ({"isWritablePrimary": True}, "the server is no replica set, so it has no change streams"),
        ({"setName": "other", "primary": "a:1"}, "the replica set is other, but the connection string says rs0"),
        ({"setName": "rs0"}, "replica set rs0 has no primary at the moment"),
        ({"setName": "rs0", "primary": "a:1", "hosts": ["a:1"]}, "a member answers, but the set's members cannot"),
    ],
)
def test_an_unusable_set_is_explained_by_what_one_member_says(hello: dict[str, Any], sentence: str) -> None:
    assert check_mongodb.explain(hello, "rs0", "no answer").message.startswith(sentence)


def test_a_refused_password_is_not_taken_for_a_silent_server() -> None:
    finding = check_mongodb.explain({"setName": "rs0", "primary": "a:1"}, "rs0", "it refuses user or password")
    assert finding.message == "it refuses user or password"


@pytest.mark.parametrize("policy", ["noeviction", "volatile-ttl"])
def test_a_bad_eviction_policy_matters_only_under_a_memory_limit(policy: str) -> None:
    assert levels(redis(max_bytes=0, policy=policy)) == ["ok"]
    assert levels(redis(max_bytes=2**30, policy=policy)) == ["ok", "warning"]


@pytest.mark.parametrize("policy", ["volatile-lfu", "volatile-lru", "allkeys-lru"])
def test_policies_that_keep_what_is_read_are_right(policy: str) -> None:
    assert levels(redis(max_bytes=2**30, policy=policy)) == ["ok"]


def test_an_old_redis_is_right_until_it_may_be_full() -> None:
    assert levels(redis("6.2.14")) == ["ok"]
    assert levels(redis("6.2.14", 2**30, "volatile-lfu")) == ["ok", "warning"]


@pytest.mark.parametrize("facts", [{"version": "6.0.20"}, {"role": "slave"}, {"is_cluster": True}])
def test_a_redis_that_cannot_serve_is_a_problem(facts: dict[str, Any]) -> None:
    assert levels(redis(**facts)) == ["problem"]


def test_a_topic_as_declared_is_right() -> None:
    assert levels(kafka(1, {0: 1, 1: 1}, partitions=2)) == ["ok", "ok"]


def test_a_topic_that_is_not_there_will_be_created() -> None:
    assert kafka(1, None)[-1].message == "topic neverstale.changes will be created with 4 partitions"


def test_a_topic_that_cannot_be_created_is_a_problem() -> None:
    assert levels(kafka(2, None, replication_factor=3)) == ["ok", "problem"]


def test_another_number_of_partitions_is_a_warning_with_the_line_to_set() -> None:
    finding = kafka(1, {0: 1, 1: 1})[-1]
    assert (finding.level, finding.remedy) == ("warning", "set NEVERSTALE_KAFKA__PARTITIONS=2")


def test_fewer_replicas_than_declared_are_a_warning() -> None:
    assert levels(kafka(3, {0: 3, 1: 1}, partitions=2, replication_factor=3)) == ["ok", "warning"]


async def test_a_lease_shorter_than_a_read_is_a_warning() -> None:
    settings, _ = load({"NEVERSTALE_API__LEASE_MS": "1500"})
    found = await check(settings, CATALOG, offline=True)
    assert [(f.subject, f.level) for f in found] == [("catalog", "ok"), ("settings", "warning")]


async def test_the_defaults_leave_nothing_to_say_offline() -> None:
    assert levels(await check(Settings(), CATALOG, offline=True)) == ["ok"]
