"""Whether this Kafka answers and the topic is as declared."""

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code

from neverstale.errors import Outage
from neverstale.kafka.dead_letters import topic_of
from neverstale.kafka.producer import LARGEST_BATCH_BYTES
from neverstale.kafka.refusals import altered, at_the_door, refused
from neverstale.kafka.topic import declared, is_embedded, unfitness
from neverstale.settings import Kafka
from neverstale.settings_sources import variable
from ops.check.findings import Finding
from ops.servers import KafkaFacts, kafka_admin, kafka_facts


async def check_kafka(settings: Kafka) -> list[Finding]:
    try:
        async with kafka_admin(settings) as admin:
            dead = topic_of(settings)
            findings = list(judge(await kafka_facts(admin, settings.topic), settings))
            findings += _fit(await kafka_facts(admin, dead.topic), dead)
            return findings + await _may_create(admin, settings)
    except Outage as outage:
        if (refusal := await at_the_door(settings)) is not None:
            return [Finding("kafka", "problem", f"refuses us: {refusal.reason}", refusal.remedy)]
        remedy = f"start it, or correct {variable('kafka.bootstrap_servers')}"
        return [Finding("kafka", "problem", f"does not answer: {outage.reason}", remedy)]


def judge(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    yield Finding("kafka", "ok", f"{facts.brokers} broker{'s' if facts.brokers > 1 else ''}")
    if facts.replicas is None:
        yield _to_be_created(facts, settings)
        return
    partitions, replicas = len(facts.replicas), min(facts.replicas.values())
    if partitions != settings.partitions:
        yield Finding(
            "kafka",
            "warning",
            f"topic {settings.topic} has {partitions} partitions, not {settings.partitions}; the former counts",
            f"set {variable('kafka.partitions')}={partitions}",
        )
    if replicas < settings.replication_factor:
        yield Finding(
            "kafka",
            "warning",
            f"a partition of {settings.topic} has {replicas} replicas, not {settings.replication_factor}",
            "reassign its partitions, or correct " + variable("kafka.replication_factor"),
        )
    yield from _fit(facts, settings)
    yield from _retained(facts, settings)
    yield from _copied(facts, settings)
    if partitions == settings.partitions and replicas >= settings.replication_factor:
        yield Finding("kafka", "ok", f"topic {settings.topic} with {partitions} partitions")


def _fit(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    """Whether the topic takes what is written to it."""
    if facts.replicas is None:
        return
    unfit = unfitness(facts.configs, settings)
    if unfit is not None:
        yield Finding("kafka", "problem", unfit.reason, unfit.remedy)
        return
    largest = int(facts.configs.get("max.message.bytes") or LARGEST_BATCH_BYTES)
    if largest < LARGEST_BATCH_BYTES:
        yield Finding(
            "kafka",
            "warning",
            f"topic {settings.topic} has max.message.bytes={largest}: batches are cut to that, and a change that "
            "needs more voids its collection",
            altered("max.message.bytes=1048588", settings),
        )


def _copied(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    """Some brokers take nothing with acks=all where fewer replicas exist than must be in sync."""
    wanted, replicas = int(facts.configs.get("min.insync.replicas") or 1), min((facts.replicas or {0: 0}).values())
    if wanted > replicas:
        yield Finding(
            "kafka",
            "warning",
            f"topic {settings.topic} has min.insync.replicas={wanted}, above its {replicas} replica(s)",
            altered(f"min.insync.replicas={max(1, replicas - 1)}", settings),
        )


def _retained(facts: KafkaFacts, settings: Kafka) -> Iterable[Finding]:
    held = facts.configs.get("retention.ms")
    if held is not None and 0 <= int(held) < settings.retention_ms:
        yield Finding(
            "kafka",
            "warning",
            f"topic {settings.topic} keeps records for {held} ms, not {settings.retention_ms}",
            altered(f"retention.ms={settings.retention_ms}", settings),
        )


async def _may_create(admin: AIOKafkaAdminClient, settings: Kafka) -> list[Finding]:
    """What would keep us from creating the topics that are missing: the broker says it without doing it."""
    missing = [one for one in (settings, topic_of(settings)) if one.topic not in await admin.list_topics()]
    if not missing or await is_embedded(admin):
        return []
    answer = await admin.create_topics([declared(one) for one in missing], validate_only=True)
    found = []
    for one, (_, code, *_) in zip(missing, answer.topic_errors, strict=True):
        refusal = refused(for_code(code)(), one) if code else None
        if refusal is not None:
            message = f"topic {one.topic} cannot be created: {for_code(code).__name__}"
            found.append(Finding("kafka", "problem", message, refusal.remedy))
    return found


def _to_be_created(facts: KafkaFacts, settings: Kafka) -> Finding:
    if settings.replication_factor > facts.brokers:
        return Finding(
            "kafka",
            "problem",
            f"{settings.topic} cannot have {settings.replication_factor} replicas on {facts.brokers} broker(s)",
            f"lower {variable('kafka.replication_factor')} or add brokers",
        )
    return Finding("kafka", "ok", f"topic {settings.topic} will be created with {settings.partitions} partitions")
