"""Traces over the whole pipeline: from the batch that a watcher publishes to the batch that a consumer applies."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from neverstale.role import traces
from tests.support.waiting import eventually
from tests.worlds.neighbourhood import Neighbourhood, catalog_of, settings_of


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.use(provider)
    yield exporter
    traces.use(None)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


async def test_what_a_consumer_applies_follows_from_what_a_watcher_has_published(
    spans: InMemorySpanExporter,
    mongo_uri: str,
    kafka_servers: str,
    redis_url: str,
    topic: str,
    redis_prefix: str,
    database: str,
) -> None:
    settings = settings_of(mongo_uri, kafka_servers, redis_url, topic, redis_prefix)
    async with Neighbourhood.of(settings, catalog_of(database), redis_url) as world:

        async def followed() -> bool:
            await world.write()
            made = spans.get_finished_spans()
            published = {id_of(span) for span in made if span.name == "publish"}
            applied = [span for span in made if span.name == "apply" and span.parent is not None]
            return any(span.parent is not None and span.parent.span_id in published for span in applied)

        await eventually(followed, "a batch is applied that follows from one that was published", 60)
        headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "cache-control": "max-stale"}
        await world.http.get("/v1/things/a?fields=size", headers=headers)
        answered = {span.name: span for span in spans.get_finished_spans()}["GET /v1/things/{key}"]
        assert answered.context is not None and f"{answered.context.trace_id:x}" == "a" * 32
        assert (answered.attributes or {})["http.route"] == "/v1/things/{key}"
