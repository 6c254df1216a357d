"""Whether a topic takes what is written to it, keeps it for as long as it may be needed, and loses none of it."""

from collections.abc import Iterable
from typing import Final

from neverstale.kafka.producer import LARGEST_BATCH_BYTES
from neverstale.kafka.refusals import altered
from neverstale.kafka.topic import unfitness
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import export
from neverstale.ops.servers import KafkaFacts
from neverstale.settings import Kafka

REPLAYS: Final = 4
"""A topic should hold so many times what a consumer may have to apply again: room for an outage before it."""
SAFE_REPLICAS: Final = 3
"""One may be down and another be lost, where two must be in sync."""

_say = about("topics", "kafka")


def judge(facts: KafkaFacts, settings: Kafka, replay_seconds: int) -> Iterable[Finding]:
    """Of the topic of changes."""
    if facts.replicas is None:
        yield _to_be_created(facts, settings)
        return
    findings = [
        *_counted(facts, settings),
        *_fit(facts, settings),
        *_retained(facts, settings, replay_seconds),
        *_copied(facts, settings),
    ]
    yield from findings
    if not findings:
        yield _say.well(f"topic {settings.topic} with {len(facts.replicas)} partitions")


def judge_dead(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    """Of the topic of dead letters, which need not be there."""
    if facts.replicas is not None:
        yield from _fit(facts, settings)
        yield from _copied(facts, settings)


def _counted(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    partitions = len(facts.replicas or ())
    if partitions != settings.partitions:
        yield _say(
            "warning",
            "other-partitions",
            f"topic {settings.topic} has {partitions} partitions, not {settings.partitions}; the former counts",
            export("kafka.partitions", partitions),
        )


def _fit(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    """Whether the topic takes what is written to it."""
    unfit = unfitness(facts.configs, settings)
    if unfit is not None:
        yield _say("problem", "unfit", unfit.reason, unfit.remedy)
        return
    largest = int(facts.configs.get("max.message.bytes") or LARGEST_BATCH_BYTES)
    if largest < LARGEST_BATCH_BYTES:
        yield _say(
            "warning",
            "small-batches",
            f"topic {settings.topic} has max.message.bytes={largest}: batches are cut to that, and a change that "
            "needs more voids its collection",
            altered("max.message.bytes=1048588", settings),
        )


def _retained(facts: KafkaFacts, settings: Kafka, replay_seconds: int) -> Iterable[Finding]:
    told, needed_ms = facts.configs.get("retention.ms"), REPLAYS * replay_seconds * 1000
    held = int(told) if told is not None else -1
    if 0 <= held < needed_ms:
        too_soon = held < replay_seconds * 1000
        yield _say(
            "problem" if too_soon else "warning",
            "forgets-too-soon",
            f"topic {settings.topic} keeps records for {held} ms, less than {REPLAYS} times what a consumer may have "
            f"to apply again (consumer.replay_seconds is {replay_seconds}): what is gone by then voids everything",
            altered(f"retention.ms={max(needed_ms, settings.retention_ms)}", settings),
        )
    elif 0 <= held < settings.retention_ms:
        yield _say(
            "warning",
            "forgets-sooner",
            f"topic {settings.topic} keeps records for {held} ms, not {settings.retention_ms}",
            altered(f"retention.ms={settings.retention_ms}", settings),
        )
    if int(facts.configs.get("retention.bytes") or -1) >= 0:
        yield _say(
            "warning",
            "forgets-by-size",
            f"topic {settings.topic} has retention.bytes={facts.configs['retention.bytes']}: many changes at once "
            "push out records that consumers have not read yet",
            altered("retention.bytes=-1", settings),
        )


def _copied(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    """Whether an acknowledged record outlives a broker, and whether a broker that is down keeps none from being
    written."""
    assert facts.replicas is not None
    replicas, topic = min(facts.replicas.values()), settings.topic
    wanted = int(facts.configs.get("min.insync.replicas") or 1)
    if facts.leaderless:
        where = ", ".join(map(str, facts.leaderless))
        yield _say(
            "problem", "leaderless", f"nobody leads partition {where} of {topic}", "start the brokers that hold it"
        )
    elif facts.behind:
        where = ", ".join(map(str, facts.behind))
        remedy = f"see kafka-topics --bootstrap-server {settings.bootstrap_servers} --describe --topic {topic}"
        yield _say("warning", "not-in-sync", f"a replica of partition {where} of {topic} is not in sync", remedy)
    if replicas < settings.replication_factor:
        message = f"a partition of {topic} has {replicas} replicas, not {settings.replication_factor}"
        yield _say("warning", "few-replicas", message, _reassign(settings))
    elif replicas == 1 and facts.brokers > 1:
        message = (
            f"a partition of {topic} has one replica, though there are {facts.brokers} brokers: it dies with one"
        )
        yield _say("warning", "one-replica", message, _reassign(settings))
    if wanted > replicas:
        # Some brokers take nothing with acks=all where fewer replicas exist than must be in sync.
        message = f"topic {topic} has min.insync.replicas={wanted}, above its {replicas} replica(s)"
        remedy = altered(f"min.insync.replicas={max(1, replicas - 1)}", settings)
        yield _say("warning", "min-isr-above-replicas", message, remedy)
    elif wanted == replicas > 1:
        message = f"topic {topic} has min.insync.replicas={wanted} of {replicas}: any broker that is down stops it"
        yield _say("warning", "min-isr-all", message, altered(f"min.insync.replicas={replicas - 1}", settings))
    elif wanted == 1 and replicas >= SAFE_REPLICAS:
        message = (
            f"topic {topic} has min.insync.replicas=1: a record may be acknowledged by one broker and lost with it"
        )
        yield _say("warning", "min-isr-one", message, altered("min.insync.replicas=2", settings))
    if facts.configs.get("unclean.leader.election.enable") == "true":
        message = f"a broker of {topic} that lacks records may lead it: acknowledged changes are lost unseen"
        remedy = altered("unclean.leader.election.enable=false", settings)
        yield _say("problem", "unclean-election", message, remedy)


def _reassign(settings: Kafka) -> str:
    return (
        f"kafka-reassign-partitions --bootstrap-server {settings.bootstrap_servers} "
        "--reassignment-json-file FILE --execute"
    )


def _to_be_created(facts: KafkaFacts, settings: Kafka) -> Finding:
    if settings.replication_factor > facts.brokers:
        return _say(
            "problem",
            "more-replicas-than-brokers",
            f"{settings.topic} cannot have {settings.replication_factor} replicas on {facts.brokers} broker(s)",
            f"{export('kafka.replication_factor', facts.brokers)}, or add brokers",
        )
    return _say.well(f"topic {settings.topic} will be created with {settings.partitions} partitions")
