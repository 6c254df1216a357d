"""Whether this Kafka answers and the topic is as declared."""

from collections.abc import Iterable

from neverstale.errors import Outage
from neverstale.settings import Kafka
from neverstale.settings_sources import variable
from ops.findings import Finding
from ops.servers import KafkaFacts, kafka_admin, kafka_facts


async def check_kafka(settings: Kafka) -> list[Finding]:
    try:
        async with kafka_admin(settings) as admin:
            return list(judge(await kafka_facts(admin, settings.topic), settings))
    except Outage as outage:
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
    if partitions == settings.partitions and replicas >= settings.replication_factor:
        yield Finding("kafka", "ok", f"topic {settings.topic} with {partitions} partitions")


def _to_be_created(facts: KafkaFacts, settings: Kafka) -> Finding:
    if settings.replication_factor > facts.brokers:
        return Finding(
            "kafka",
            "problem",
            f"{settings.topic} cannot have {settings.replication_factor} replicas on {facts.brokers} broker(s)",
            f"lower {variable('kafka.replication_factor')} or add brokers",
        )
    return Finding("kafka", "ok", f"topic {settings.topic} will be created with {settings.partitions} partitions")
