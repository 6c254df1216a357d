"""Whether this Kafka answers, and has the topics or lets us create them."""

from collections.abc import Iterable
from itertools import chain

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Outage
from neverstale.kafka.dead_letters import topic_of
from neverstale.kafka.refusals import at_the_door, refused
from neverstale.kafka.topic import declared, is_embedded
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import export
from neverstale.ops.check.topics import judge, judge_dead
from neverstale.ops.servers import kafka_admin, kafka_facts
from neverstale.settings import Kafka, Settings
from neverstale.watcher_groups import kafka_of

_reachable = about("reachable", "kafka")


async def check_kafka(settings: Settings, groups: Iterable[str] = (DEFAULT_GROUP,)) -> list[Finding]:
    """`groups`: the watcher groups whose topics there are."""
    kafka = settings.kafka
    try:
        async with kafka_admin(kafka) as admin:
            found = [await _of_group(admin, settings, kafka_of(kafka, group)) for group in groups]
            facts = await kafka_facts(admin, kafka.topic)
            brokers = _reachable.well(f"{facts.brokers} broker{'s' if facts.brokers > 1 else ''}")
            return list(chain([brokers], *found))
    except Outage as outage:
        if (refusal := await at_the_door(kafka)) is not None:
            return [_reachable("problem", "kafka-refuses", f"refuses us: {refusal.reason}", refusal.remedy)]
        remedy = f"start it, or correct: {export('kafka.bootstrap_servers', kafka.bootstrap_servers)}"
        return [_reachable("problem", "no-answer", f"does not answer: {outage.reason}", remedy)]


async def _of_group(admin: AIOKafkaAdminClient, settings: Settings, kafka: Kafka) -> list[Finding]:
    dead = topic_of(kafka)
    found = judge(await kafka_facts(admin, kafka.topic), kafka, settings.consumer.replay_seconds)
    letters = judge_dead(await kafka_facts(admin, dead.topic), dead)
    return list(chain(found, letters, await _may_create(admin, kafka)))


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
            found.append(about("topics", "kafka")("problem", "topic-not-creatable", message, refusal.remedy))
    return found
