"""The way to a cell in a real Redis Cluster: found, followed when its slot moves, an outage when its node is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.crc import key_slot

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.commands import Commands
from neverstale.redis.corrections import Account, Corrections
from neverstale.redis.nodes import Nodes, nodes_of
from neverstale.settings import RedisSettings
from neverstale.versions import Version
from tests.support.redis_cluster import RedisCluster, ask
from tests.support.waiting import eventually

PATIENT_MS = 5_000
CELLS = [Names("t").cell(f"default.16.{number}") for number in range(16)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    made = asyncio.run(RedisCluster.start(folder, masters=2))
    yield made
    made.kill()


@asynccontextmanager
async def nodes_to(cluster: RedisCluster) -> AsyncIterator[Nodes]:
    settings = RedisSettings.model_validate({"url": cluster.url, "connect_timeout_ms": 1_000})
    nodes = nodes_of(settings, timeout_ms=PATIENT_MS)
    try:
        yield nodes
    finally:
        await nodes.aclose()


def corrections(nodes: Nodes, names: Names) -> Corrections:
    cache = Corrections(None, names, round_trip=nodes.to_cell(names.applied, "corrections", corrects=True))
    cache.publish = nodes.publish
    return cache


async def now() -> Version:
    return 5 << 32


async def test_every_cell_is_reached_and_all_its_steps_are_taken_by_one_node(cluster: RedisCluster) -> None:
    async with nodes_to(cluster) as nodes:
        identities = set()
        for names in CELLS:
            cache = corrections(nodes, names)
            assert await cache.establish(["things"], now) == 2
            account = Account("g", {0: 0}, {0: 1})
            done = await cache.invalidate(
                6 << 32, [names.entry("things", "s:a")], ["0" * 16, "n"], {}, 100, (), account
            )
            await cache.reach(account, done.token)
            assert await cache.set_watermarks("g", done.identity, 16, {3: (6 << 32, 1_700_000_000_000)}) == {}
            held = await Cache(None, names, round_trip=nodes.to_cell(names.applied, "looks")).watermarks("g")
            assert held.by_partition[3].identity == held.identity == done.identity
            identities.add(held.identity)
        assert len(identities) == 2, "the cells lie on both masters"


async def test_what_lies_in_no_cell_is_sent_to_whoever_holds_it(cluster: RedisCluster) -> None:
    async with nodes_to(cluster) as nodes:
        commands = Commands(None, Names("t"), round_trip=nodes.send)
        keys = [Names("t").role("api", str(number)) for number in range(20)]
        await commands.send(*(("SET", key, key) for key in keys))
        assert await commands.send(*(("GET", key) for key in keys)) == keys
        script = await commands.call("limit", [Names("t").limit(b"somebody")], ["1000.0", 5, 1])
        assert (await commands.send(script))[0][0] == 1


async def test_a_cell_is_followed_while_and_after_its_slot_is_moved_and_back(cluster: RedisCluster) -> None:
    names = CELLS[0]
    slot = key_slot(names.applied)
    async with nodes_to(cluster) as nodes:
        written, read = corrections(nodes, names), Cache(None, names, round_trip=nodes.to_cell(names.applied, "hits"))
        key = names.entry("things", "s:moved")
        for _ in range(2):
            await ask(await cluster.owner(slot), "SET", key, "x" * 96)
            assert (await read.read_raw("things", [key]))[1] == [b"x" * 96]
            (to,) = [one for one in cluster.nodes[:2] if one is not await cluster.owner(slot)]
            await cluster.move(slot, to)
            assert (await read.read_raw("things", [key]))[1] == [b"x" * 96]
            await written.delete([key])
            assert (await read.read_raw("things", [key]))[1] == [None]


async def test_nothing_is_corrected_in_a_cell_that_is_being_moved_while_readers_are_sent_on(
    cluster: RedisCluster,
) -> None:
    names = CELLS[1]
    slot = key_slot(names.applied)
    source = await cluster.owner(slot)
    (to,) = [one for one in cluster.nodes[:2] if one is not source]
    ids = [(await ask(node, "CLUSTER", "MYID")).decode() for node in (source, to)]
    await ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    try:
        async with nodes_to(cluster) as nodes:
            entry = names.entry("things", "s:not there")
            read = Commands(None, names, round_trip=nodes.to_cell(names.applied, "hits"))
            assert await read.send(("GET", entry)) == [None]
            with pytest.raises(Outage, match="AskError"):
                await corrections(nodes, names).invalidate(1, [entry], ["0" * 16, "n"], {}, 100)
    finally:
        for node in (source, to):
            await ask(node, "CLUSTER", "SETSLOT", slot, "STABLE")


async def test_a_master_that_dies_is_an_outage_of_its_cells_until_its_replica_is_promoted(
    cluster: RedisCluster,
) -> None:
    async with nodes_to(cluster) as nodes:
        owners = {names: await cluster.owner(key_slot(names.applied)) for names in CELLS}
        caches = {names: corrections(nodes, names) for names in CELLS}
        before = {names: await caches[names].identity() for names in CELLS}
        lost = owners[CELLS[0]]
        lost.kill()
        for names, owner in owners.items():
            if owner is lost:
                with pytest.raises(Outage):
                    await caches[names].ping()
            else:
                await caches[names].ping()
        (replica,) = [node for node in cluster.nodes[2:] if await _follows(node, lost.port)]
        await ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")

        async def answers() -> bool:
            try:
                return await caches[CELLS[0]].identity() != before[CELLS[0]]
            except Outage:
                return False

        await eventually(answers, "the replica is found", 30)
        for names, owner in owners.items():
            assert (await caches[names].identity() == before[names]) == (owner is not lost)


async def _follows(node: object, port: int) -> bool:
    return f"master_port:{port}".encode() in bytes(str(await ask(node, "INFO", "replication")), "utf-8")  # type: ignore[arg-type]
