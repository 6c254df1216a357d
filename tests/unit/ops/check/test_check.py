"""What `neverstale check` says of what the servers tell it."""

from typing import Any

import pytest

from neverstale.catalog import Catalog
from neverstale.ops.check import mongodb as check_mongodb
from neverstale.ops.check import redis as check_redis
from neverstale.ops.check import topics as check_topics
from neverstale.ops.check.check import check
from neverstale.ops.check.findings import Finding
from neverstale.ops.servers import KafkaFacts, MongoFacts, RedisFacts
from neverstale.settings import Kafka, RedisSettings, Settings
from neverstale.settings.sources import load

REPLAY_SECONDS = 900
CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})


def levels(findings: Any) -> list[str]:
    return [finding.level for finding in findings]


def mongo(version: str = "8.0.23", set_name: str | None = "rs0", is_mongos: bool = False) -> list[Finding]:
    return list(check_mongodb.judge(MongoFacts(version, set_name, is_mongos, "h:27017")))


def redis(version: str = "8.2.9", max_bytes: int = 0, policy: str = "noeviction", **facts: Any) -> list[Finding]:
    known: dict[str, Any] = {"role": "master", "is_cluster": False, "used_bytes": 1} | facts
    return list(
        check_redis.judge(RedisFacts(version=version, max_bytes=max_bytes, policy=policy, **known), RedisSettings())
    )


def topic(brokers: int, replicas: dict[int, int] | None, **settings: Any) -> list[Finding]:
    return list(check_topics.judge(KafkaFacts(brokers, replicas), Kafka(**settings), REPLAY_SECONDS))


def configured(replicas: int = 1, /, **configs: str) -> list[Finding]:
    """A topic as declared, but for some of its configuration."""
    told = {name.replace("_", "."): value for name, value in configs.items()}
    facts = KafkaFacts(replicas, dict.fromkeys(range(4), replicas), told)
    return list(check_topics.judge(facts, Kafka(), REPLAY_SECONDS))


def test_a_replica_set_is_right_and_a_sharded_cluster_is_not_proved() -> None:
    assert levels(mongo()) == ["ok"]
    [finding] = mongo(set_name=None, is_mongos=True)
    assert finding.level == "warning" and "works-with.md#sharded-mongodb" in finding.remedy


def test_a_server_without_snapshot_reads_is_a_problem() -> None:
    assert mongo("4.4.29")[0] == Finding(
        "versions", "mongodb", "problem", "too-old", "the server is 4.4.29", "run MongoDB 5.0 or later"
    )


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
    assert levels(topic(1, {0: 1, 1: 1}, partitions=2)) == ["ok"]


def test_a_topic_that_is_not_there_will_be_created() -> None:
    assert topic(1, None)[-1].message == "topic neverstale.changes will be created with 4 partitions"


def test_a_topic_that_cannot_be_created_is_a_problem() -> None:
    assert levels(topic(2, None, replication_factor=3)) == ["problem"]


def test_another_number_of_partitions_is_a_warning_with_the_line_to_set() -> None:
    finding = topic(1, {0: 1, 1: 1})[-1]
    assert (finding.level, finding.remedy) == ("warning", "export NEVERSTALE_KAFKA__PARTITIONS=2")


def test_fewer_replicas_than_declared_are_a_warning() -> None:
    assert levels(topic(3, {0: 3, 1: 1}, partitions=2, replication_factor=3)) == ["warning"]


@pytest.mark.parametrize(
    ("ms", "expected"),
    [("-1", "ok"), ("899999", "problem"), ("900000", "warning"), ("3600000", "warning"), ("86400000", "ok")],
)
def test_a_topic_keeps_four_times_what_may_have_to_be_applied_again(ms: str, expected: str) -> None:
    assert levels(configured(retention_ms=ms)) == [expected]


@pytest.mark.parametrize(
    ("replicas", "wanted", "expected"),
    [(1, "1", "ok"), (1, "2", "warning"), (2, "1", "ok"), (2, "2", "warning"), (3, "1", "warning"), (3, "2", "ok")],
)
def test_a_record_outlives_a_broker_and_a_broker_that_is_down_stops_nothing(
    replicas: int, wanted: str, expected: str
) -> None:
    assert levels(configured(replicas, min_insync_replicas=wanted)) == [expected]


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ({"cleanup_policy": "compact,delete"}, "problem"),
        ({"max_message_bytes": "1000"}, "problem"),
        ({"max_message_bytes": "10000"}, "warning"),
        ({"retention_bytes": "1000000"}, "warning"),
        ({"retention_bytes": "-1"}, "ok"),
        ({"unclean_leader_election_enable": "true"}, "problem"),
        ({"unclean_leader_election_enable": "false"}, "ok"),
    ],
)
def test_what_a_topic_must_not_be_is_named_with_the_line_that_changes_it(
    configs: dict[str, str], expected: str
) -> None:
    [finding] = configured(**configs)
    assert finding.level == expected
    if expected != "ok":
        assert finding.remedy.startswith("kafka-configs --bootstrap-server 127.0.0.1:9092 --alter ")


async def test_a_lease_shorter_than_a_read_is_a_warning() -> None:
    settings, _ = load({"NEVERSTALE_API__LEASE_MS": "1500"})
    found = await check(settings, CATALOG, offline=True)
    assert [(f.subject, f.level) for f in found if f.check == "declared"] == [
        ("catalog", "ok"),
        ("settings", "warning"),
    ]


async def test_the_defaults_leave_nothing_to_say_offline() -> None:
    assert levels(await check(Settings(), CATALOG, offline=True)) == ["ok", "ok"]
