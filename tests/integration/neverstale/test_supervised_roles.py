"""Every background task of every role is made to fail: it is started again, or it ends the role and is named.

The names in these tables are all that there are: a task that is not in one fails the test.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from neverstale.catalog import Catalog
from neverstale.consumers import main as consumer
from neverstale.kafka.topic import ensure_topic
from neverstale.role import supervised, tasks
from neverstale.role.service import Health
from neverstale.role.supervised import part
from neverstale.role.tasks import failed_in
from neverstale.settings import Settings
from neverstale.streams import main as watcher
from tests.support.waiting import eventually
from tests.worlds.api import World
from tests.worlds.consuming import running_life

API = {
    "clock": "neverstale.api.app.keep_clock",
    "watermark": "neverstale.api.freshness.watermark.Freshness.keep_watermark",
    "generations": "neverstale.api.layouts.keep_known",
    "card": "neverstale.api.app.show_card",
    "kinds": "neverstale.mongodb.kinds.Kinds.keep",
    "apply-ops": "neverstale.mongodb.apply_ops.ApplyOpsGap.keep",
    "count": "neverstale.api.hits.fast_path.Hot.keep_counting",
    "tally": "neverstale.api.reads.read_counts.ReadCounts.keep_telling",
    "warm": "neverstale.api.warm.KeepWarm.run",
    "channel": "neverstale.api.hits.channel.Channel.listen",
    "live-reads": "neverstale.api.live.feeds.Feeds.keep_looking",
    "live-bounds": "neverstale.api.live.feeds.Feeds.keep_telling",
    "sample": "neverstale.api.app.Sampling.keep",
}
CONSUMER = {
    "card": "neverstale.consumers.main.show_card",
    "registers": "neverstale.consumers.registers.Registers.keep_known",
    "horizon": "neverstale.consumers.records.horizon.Horizon.keep",
    "refresh": "neverstale.consumers.refresh.Refresher.work",
    "kinds": "neverstale.mongodb.kinds.Kinds.keep",
    "favourites": "neverstale.consumers.most_read.Favourites.keep",
    "rebuild-things": "neverstale.consumers.derived.rebuild.Rebuilder.keep",
}
WATCHER = {
    "card": "neverstale.streams.main.show_card",
    "walk": "neverstale.streams.walk.Walker.run",
    "kinds": "neverstale.mongodb.kinds.Kinds.keep",
    "apply-ops": "neverstale.mongodb.apply_ops.ApplyOpsGap.keep",
    "headroom": "neverstale.streams.main.keep_headroom",
}

STORY_OF_CONSUMER = {
    "commit": "neverstale.consumers.loop.ConsumerLoop._commit_often",
    "watch-kafka": "neverstale.consumers.loop.ConsumerLoop._watch",
    "watch-group": "neverstale.consumers.group.member.Member.until_replaced",
    "watch-peers": "neverstale.consumers.group.member.Member.watch_peers",
}
STORY_OF_WATCHER = {
    "read": "neverstale.streams.stream.Stream.run",
    "publish": "neverstale.streams.publisher.Publisher.run",
    "acks": "neverstale.streams.acks.Acks.run",
    "heart": "neverstale.streams.heartbeat.Heart.run",
    "checkpoint": "neverstale.streams.checkpoint.Checkpoint.run",
    "guard": "neverstale.streams.guard.Guard.run",
    "lease": "neverstale.streams.lease.Lease.keep",
}
WITHIN = {"refresh", "walk", "publish", "await-stop"}
"""Tasks that a task of the tables is made of begin with its name; and one that only waits."""


@pytest.fixture
def catalog(database: str) -> Catalog:
    things = {
        "key_type": "string",
        "fields": {"group": "string"},
        "lists": {"all": {"by": ["group"]}},
        "warm": {"from": "lists.all", "pages": 1},
    }
    return Catalog.model_validate({"database": database, "resources": {"things": things}})


def _target(path: str) -> tuple[Any, str]:
    import importlib

    parts = path.split(".")
    found: Any = importlib.import_module(".".join(parts[:3]))
    for name in parts[3:-1]:
        found = getattr(found, name)
    return found, parts[-1]


def make_die(monkeypatch: pytest.MonkeyPatch, name: str, path: str, begun: set[str]) -> None:
    """It dies when it is first called, and lives from then on."""
    owner, attribute = _target(path)
    original: Callable[..., Awaitable[None]] = getattr(owner, attribute)
    lives = 0

    async def dying(*arguments: Any, **options: Any) -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            raise KeyError(name)
        begun.add(name)
        await original(*arguments, **options)

    monkeypatch.setattr(owner, attribute, dying)


def note_names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of all that is kept."""
    names: set[str] = set()
    keep = supervised.Supervised.keep

    def noting(self: supervised.Supervised, name: str, work: supervised.Work) -> None:
        names.add(name)
        keep(self, name, work)

    monkeypatch.setattr(supervised.Supervised, "keep", noting)
    return names


async def all_die_and_live(health: Health, table: Mapping[str, str], begun: set[str]) -> None:
    async def again() -> bool:
        return begun == set(table)

    await eventually(again, "all have been started again", 30)
    for name in table:
        assert health.parts[part(name)] == f"died 1 times, the last time of KeyError: '{name}'"


async def test_each_task_of_the_api_that_dies_is_started_again_and_readyz_says_so(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, catalog: Catalog
) -> None:
    names, begun = note_names(monkeypatch), set[str]()
    for name, path in API.items():
        make_die(monkeypatch, name, path, begun)
    with capture_logs() as logs:
        async with World.of(settings, catalog) as world:
            health = world.state.health
            await all_die_and_live(health, API, begun)
            said = (await world.http.get("/readyz")).json()["parts"]
            assert all("KeyError" in said[part(name)] for name in API)
    assert names == set(API)
    assert {line["task"] for line in logs if line["event"] == "task_died"} == set(API)


@pytest.mark.parametrize(("live", "table"), [(consumer.live, CONSUMER), (watcher.live, WATCHER)])
async def test_each_task_beside_a_consumer_and_a_watcher_that_dies_is_started_again(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, catalog: Catalog, live: Any, table: dict[str, str]
) -> None:
    names, begun = note_names(monkeypatch), set[str]()
    for name, path in table.items():
        make_die(monkeypatch, name, path, begun)
    life = running_life()
    with capture_logs() as logs:
        running = asyncio.create_task(live(settings, catalog, life))
        try:
            await all_die_and_live(life.health, table, begun)
        finally:
            life.stop.set()
            await asyncio.wait_for(running, 30)
    assert names == set(table)
    assert {line["task"] for line in logs if line["event"] == "task_died"} == set(table)


@pytest.mark.parametrize(
    ("live", "name", "path"),
    [(watcher.live, *story) for story in STORY_OF_WATCHER.items()]
    + [(consumer.live, *story) for story in STORY_OF_CONSUMER.items()],
)
async def test_each_task_of_a_role_s_own_work_that_dies_ends_the_role_and_is_named(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, catalog: Catalog, live: Any, name: str, path: str
) -> None:
    await ensure_topic(settings.kafka)
    make_die(monkeypatch, name, path, set())
    names: set[str] = set()
    story = tasks.named

    async def noting(work: Any, called: str) -> Any:
        names.add(called)
        return await story(work, called)

    monkeypatch.setattr(tasks, "named", noting)
    with pytest.raises((KeyError, ExceptionGroup)) as raised:
        await asyncio.wait_for(live(settings, catalog, running_life()), 60)
    assert failed_in(raised.value)[0] == name
    assert tasks.in_words(raised.value) == f"KeyError: '{name}'"
    known = STORY_OF_WATCHER if live is watcher.live else STORY_OF_CONSUMER
    assert {one for one in names if one.split("-")[0] not in WITHIN and one not in WITHIN} == set(known) - WITHIN
