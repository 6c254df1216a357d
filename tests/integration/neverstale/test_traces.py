"""Traces over the whole pipeline, as a collector gets them: a watcher, a consumer and an API as processes of their
own, which export by OTLP over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from neverstale.kafka.events import Mark, decode
from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.role import Role, RoleOptions, RunningRole, start_role
from neverstale.servers import mongo_client
from neverstale.settings.sources import load
from tests.support.collector import Collector, Span, collecting
from tests.support.waiting import eventually

ROLES: tuple[Role, ...] = ("watcher", "consumer", "api")
EXIT_SECONDS = 15.0


pytestmark = pytest.mark.usefixtures("forked_roles")


@dataclass
class Traced:
    environment: dict[str, str]
    folder: Path
    database: str
    exits: AsyncExitStack

    async def start(self, collector: str, *roles: Role) -> dict[Role, RunningRole]:
        """These roles, which send every span to that address."""
        traced = {
            "NEVERSTALE_SERVICE__TRACED_SHARE": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        started = await asyncio.gather(
            *(
                start_role(
                    RoleOptions(
                        role=role,
                        name=f"{role}-1",
                        data=self.folder,
                        port=free_port(),
                        environment=self.environment | traced,
                    )
                )
                for role in roles
            )
        )
        for each in started:
            self.exits.callback(each.kill)
        return dict(zip(roles, started, strict=True))

    async def write(self, number: int) -> None:
        async with mongo_client(load(self.environment)[0].mongodb) as mongo:
            await mongo[self.database]["things"].update_one({"_id": "a"}, {"$set": {"n": number}}, upsert=True)


@pytest.fixture
async def traced(
    mongo_uri: str,
    kafka_servers: str,
    redis_url: str,
    topic: str,
    redis_prefix: str,
    database: str,
    tmp_path: Path,
) -> AsyncIterator[Traced]:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(f'database = "{database}"\n[resources.things]\nkey_type = "string"\n')
    environment = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_KAFKA__GROUP": topic,
        "NEVERSTALE_KAFKA__PARTITIONS": "1",
        "NEVERSTALE_KAFKA__FETCH_MAX_WAIT_MS": "10",
        "NEVERSTALE_REDIS__URL": redis_url,
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
        "NEVERSTALE_WATCHER__GROUP": topic,
        "NEVERSTALE_CATALOG": str(catalog),
    }
    async with AsyncExitStack() as exits:
        yield Traced(environment, tmp_path, database, exits)


async def test_a_collector_gets_one_span_a_batch_and_what_is_applied_follows_from_what_was_published(
    traced: Traced, kafka_servers: str, topic: str
) -> None:
    with collecting() as collector:
        roles = await traced.start(collector.endpoint, *ROLES)
        followed: list[tuple[Span, Span]] = []
        written = 0

        async def follows() -> bool:
            nonlocal written
            written += 1
            await traced.write(written)
            published = {span.id: span for span in collector.of("neverstale-watcher", "publish")}
            applied = [span for span in collector.of("neverstale-consumer", "apply") if span.parent in published]
            followed[:] = [(published[span.parent], span) for span in applied]
            return bool(followed)

        await eventually(follows, "a batch is applied that follows from one that was published", 60)
        for published, applied in followed:
            assert applied.trace == published.trace and applied.nanoseconds > 0
            assert applied.attributes["neverstale.applied"] is True
        await until_hit_is_told(roles["api"], collector)
        continued = collector.of("neverstale-api", "GET /v1/things/{key}")
        assert any((span.trace, span.parent) == ("a" * 32, "b" * 16) for span in continued)
        counted = await told_by(roles)
        for role in roles.values():
            await role.stop(EXIT_SECONDS)  # which exports what is left
    marks = [mark.trace[:-3] async for mark in marks_in(kafka_servers, topic) if mark.trace is not None]
    sent = collector.of("neverstale-watcher", "publish")
    assert set(marks) <= {span.named for span in sent} and len(marks) == len(set(marks)) > 0
    assert len(sent) == len({span.id for span in sent})
    assert len(sent) >= counted["neverstale_batch_read_size_count"] > 0
    changes = sum(int(span.attributes["neverstale.changes"]) for span in sent)
    assert changes >= counted["neverstale_batch_read_size_sum"] >= written


async def until_hit_is_told(api: RunningRole, collector: Collector) -> None:
    """A request goes on with its caller's trace, and hits that never reach FastAPI are told after the fact."""
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "cache-control": "max-stale"}
    async with httpx.AsyncClient(base_url=api.url) as http:

        async def told() -> bool:
            await http.get("/v1/things/a", headers=headers)
            await http.get("/v1/things/a")
            return any("neverstale.detail" in span.attributes for span in collector.spans)

        await eventually(told, "a plain hit is told", 30)


async def told_by(roles: dict[Role, RunningRole]) -> dict[str, float]:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{roles['watcher'].url}/metrics")).text
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def marks_in(kafka_servers: str, topic: str) -> AsyncIterator[Mark]:
    place = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_servers)
    await consumer.start()
    try:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    event = decode(record.value)
                    if isinstance(event, Mark):
                        yield event
    finally:
        await consumer.stop()


async def test_a_collector_that_is_away_keeps_no_role_from_its_work_nor_from_its_end(traced: Traced) -> None:
    roles = await traced.start(f"http://127.0.0.1:{free_port()}", "watcher")
    await traced.write(1)
    started = time.monotonic()
    await roles["watcher"].stop(EXIT_SECONDS)
    assert time.monotonic() - started < EXIT_SECONDS * 2 / 3
