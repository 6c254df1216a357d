"""`neverstale why` and `support-bundle` where a pipeline runs, and an API that answers on a socket."""

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
import pytest

from neverstale.keys import canonical
from neverstale.ops.stack.ports import free_port
from neverstale.ops.support_bundle import support_bundle
from neverstale.ops.why.group_story import why_group
from neverstale.ops.why.held import Held
from neverstale.ops.why.spoken import lines
from neverstale.ops.why.story import Story
from neverstale.ops.why.verdict import Verdict
from neverstale.ops.why.why import follow, why
from neverstale.redis.entries import etag_of
from neverstale.role.tasks import cancelled
from neverstale.settings import Settings
from neverstale.settings.sources import DEFAULT, fields
from tests.support.waiting import eventually
from tests.worlds import hits
from tests.worlds.deriving import RESOURCE
from tests.worlds.serving import Served, flight, serving


@dataclass
class Pipeline:
    served: Served
    hot: hits.Served

    @property
    def settings(self) -> Settings:
        return self.served.world.settings

    async def why(self, key: str) -> tuple[Story, Verdict]:
        return await why(self.settings, self.served.world.catalog, RESOURCE, key)

    async def until(self, key: str, words: str) -> Story:
        """Ask until the verdict says so."""
        told: list[tuple[Story, Verdict]] = []

        async def said() -> bool:
            told[:] = [await self.why(key)]
            return words in told[0][1].sentence

        await eventually(said, f"the verdict on {key} says {words!r}", 30)
        return told[0][0]

    async def read(self, path: str) -> bytes:
        async with self.hot.connection() as client:
            return await client.get(path)

    @property
    def held(self) -> str:
        return f"http://127.0.0.1:{self.hot.port}"


@pytest.fixture
async def pipeline(
    mongo_uri: str, kafka_servers: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pipeline]:
    closed = free_port()  # the app that the world runs has no socket
    monkeypatch.setattr("neverstale.api.app.service_url", lambda host, port: f"http://127.0.0.1:{closed}")
    async with serving(mongo_uri, kafka_servers, redis_url) as served, hits.Served.of(served.world) as hot:
        card = {"role": "api", "instance": "h-1", "pid": 1, "host": "h", "started_ms": 5, "version": "1"}
        card["url"] = f"http://127.0.0.1:{hot.port}"
        await served.world.redis.set(served.world.cache.names.role("api", "h-1"), orjson.dumps(card))
        yield Pipeline(served, hot)


def of(story: Story, url: str) -> Held:
    (found,) = (one for one in story.held if one.url == url)
    return found


async def test_the_story_of_a_key_from_its_first_write_to_a_cache_that_lies(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    served = pipeline.served
    version = await served.write(flight("a/b", status="first"))
    await served.applied(version)
    story = await pipeline.until("a/b", "is not cached")
    assert story.mongodb.present and story.redis.state == "missing"
    assert story.change is not None and story.change.operation == "insert" and story.change.version == version
    assert story.change_is_applied and story.partition is not None and story.partition.owner is not None
    assert of(story, pipeline.held).status == 504

    await pipeline.read(f"/v1/{RESOURCE}/a%2Fb")
    story = await pipeline.until("a/b", "is what MongoDB has now")
    held = of(story, pipeline.held)
    assert (held.status, held.digest) == (200, story.mongodb.digest) == (200, story.redis.digest)

    await served.documents.update_one({"_id": "a/b"}, {"$set": {"status": "second"}})
    seen: list[tuple[Story, Verdict]] = []

    async def applied() -> bool:
        seen[:] = [await pipeline.why("a/b")]
        assert seen[0][1].ok
        change = seen[0][0].change
        return change is not None and change.fields == ["status"] and seen[0][0].change_is_applied is True

    await eventually(applied, "the update is the last change, and applied", 30)
    assert "applied by test" in dict(lines(*seen[0]))["last change"]

    await pipeline.read(f"/v1/{RESOURCE}/a%2Fb")
    await pipeline.until("a/b", "is what MongoDB has now")
    await lie(served, "a/b")
    story, told = await pipeline.why("a/b")
    assert not told.ok and "this must not be" in told.sentence
    await pack(pipeline, tmp_path)


async def test_who_follows_a_key_is_told_of_a_write_when_it_is_published_and_when_it_is_applied(
    pipeline: Pipeline,
) -> None:
    served, told = pipeline.served, list[str]()
    await served.applied(await served.write(flight("followed")))
    task = asyncio.create_task(follow(pipeline.settings, served.world.catalog, RESOURCE, "followed", told.append))

    async def says(words: str) -> bool:
        if task.done():
            task.result()
        return any(words in line for line in told)

    await eventually(partial(says, "insert at"), "the insert is told")
    await served.documents.update_one({"_id": "followed"}, {"$set": {"status": "again"}})
    await eventually(partial(says, "update at"), "the update is told")
    lines_of_update = [line for line in told if "update at" in line]
    await eventually(partial(says, "applied"), "that it is applied is told")
    assert len(lines_of_update) >= 1 and told[0].startswith("20")
    await cancelled(task)


async def lie(served: Served, key: str) -> None:
    """As no step of ours does: another body under the header of the entry that is there."""
    name = served.world.cache.names.entry(RESOURCE, canonical(key))
    raw = await served.world.redis.get(name)
    assert isinstance(raw, bytes)
    body = b'{"_id":"a/b","status":"a lie"}'
    await served.world.redis.set(name, raw[:80] + etag_of(body) + body, keepttl=True)


async def pack(pipeline: Pipeline, folder: Path) -> None:
    """Here, because a pipeline is dear: all of it is in one file, and nothing of a document."""
    target = folder / "bundle.tar.gz"
    catalog = folder / "catalog.toml"
    catalog.write_text('database = "nyc"\n')
    settings = pipeline.settings.model_copy(update={"catalog": catalog})
    origins = dict.fromkeys(fields(), DEFAULT)
    names = await support_bundle(settings, origins, pipeline.served.world.catalog, target)
    with tarfile.open(target) as archive:
        texts = {
            entry.name.rpartition("/")[2]: archive.extractfile(entry).read().decode()  # type: ignore[union-attr]
            for entry in archive
        }
    assert set(texts) == set(names) >= {"doctor.json", "status.json", "settings.json", "redis.json", "kafka.json"}
    assert "neverstale_reads_total" in texts["api-h-1-metrics.txt"]
    assert json.loads(texts["kafka.json"])["default"]["group"]["members"]
    assert not any("a lie" in text or "a/b" in text for text in texts.values())


async def test_the_story_of_a_group_is_told_for_lists_counters_rankings_and_look_ups(pipeline: Pipeline) -> None:
    served = pipeline.served
    flights = [flight(f"k{number}", origin="LGA", day=3, delay=number) for number in range(4)]
    version = await served.write(*(one | {"tail": f"N {one['_id']}/ü"} for one in flights))
    await served.applied(version)
    for declaration, by in (
        ("lists.departures", ["origin=LGA", "day=3"]),
        ("by_status", ["origin=LGA", "status=s"]),
        ("rankings.late", ["day=3"]),
        ("lookups.tail", ["tail=N k2/ü"]),
    ):
        kind = "lists" if declaration.startswith("lists") else declaration.partition(".")[0]
        path = {"lists": "lists/departures?origin=LGA&day=3", "lookups": "by/tail/N%20k2%2F%C3%BC"}.get(kind)

        async def told(declaration: str = declaration, by: list[str] = by, path: str | None = path) -> bool:
            if path is not None:
                await pipeline.read(f"/v1/{RESOURCE}/-/{path}")
            story, verdict = await why_group(pipeline.settings, served.world.catalog, RESOURCE, declaration, by)
            assert verdict.ok and story.phase == "complete" and story.watermark is not None
            return "what MongoDB answers" in verdict.sentence

        await eventually(told, f"the cache answers {declaration}", 40)
