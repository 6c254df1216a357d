"""28: a Redis Cluster under load: a replica that lags is promoted by hand, slots are moved to a new node and back, a
cell is lost, a master takes no writes, a node is frozen, all of it is down for want of a slot, and partitions are
doubled. What is derived has a cell of its own, to which all of that happens, too; it is compared with MongoDB before
the first and after each round."""

import asyncio
import time
from signal import SIGCONT, SIGSTOP
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from redis.asyncio import Redis
from redis.crc import key_slot

from neverstale.errors import Outage, Stop
from neverstale.ops.redis.stores import stores
from neverstale.ops.repair.drift import Drift, drift
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.stack.redis import RedisServer
from neverstale.ops.truth.oracle import Tally
from tests.faults.experiments.e19_21_redises import CHANGES, in_step
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.frozen import PARTITIONS, SETTLED_SECONDS, others_keep_their_bounds
from tests.faults.rig.pipeline import RESOURCE
from tests.faults.rig.scene import Scene, scene
from tests.support.redis_cluster import RedisCluster, ask
from tests.support.waiting import eventually

COMPLETE_SECONDS: Final = 60.0
REFUSING_SECONDS: Final = 2.5
"""Longer than consumers wait for a cell: they leave it behind, and it lacks what comes meanwhile."""
MORE_THAN_THERE_ARE: Final = 100
IN_REDIS: Final = "groups wrong in Redis"
DERIVED: Final = """
[resources.things.lists.newest]
sort = ["-rev", "_id"]
page_size = 50

[resources.things.counters.all]
sums = {{ rev = {{ field = "rev" }} }}

[resources.things.counters.by_rev]
by = ["rev"]

[resources.things.rankings.most_changed]
score = "rev"
size = 100
"""


async def cluster_under_load(turn: Turn) -> Outcome:
    outcome = Outcome()
    name = turn.bench.name("cluster")
    cluster = turn.bench.keep(await RedisCluster.start(turn.bench.data, prefix=name))
    spare = await cluster.add()
    await cluster.meet(spare)
    try:
        async with scene(turn, outcome, redis_url=cluster.url, declared=DERIVED) as stage:
            await _until_complete(stage)
            await _compared(stage, outcome)
            if turn.has_found(outcome):
                return outcome
            cells = [_derived(stage), *(_slot(stage, PARTITIONS, number) for number in range(PARTITIONS))]
            for round_ in turn.each_round(outcome):
                first, second, third, fourth = (cells[(round_ + number) % len(cells)] for number in range(4))
                await _promoted(stage, outcome, cluster, second)
                await _moved(stage, outcome, cluster, first, spare)
                await _lost(stage, outcome, cluster, third)
                if turn.rounds > 1:
                    await _refusing(stage, outcome, cluster, cells[0])
                    await _frozen(stage, outcome, cluster, fourth, PARTITIONS)
                    await _down(stage, outcome, cluster, second)
                await _compared(stage, outcome)
            if turn.rounds > 1:
                await _doubled(stage)
                await stage.load.recovered(outcome, time.monotonic())
                await stage.load.check(outcome)
                await _compared(stage, outcome)
    finally:
        cluster.kill()
    return outcome


def _slot(stage: Scene, count: int, partition: int) -> int:
    return int(key_slot(f"{stage.pipe.name}:{{default.{count}.{partition}}}:applied".encode()))


def _derived(stage: Scene) -> int:
    """The slot of the cell that all partitions write."""
    return int(key_slot(f"{stage.pipe.name}:{{{RESOURCE}}}:applied".encode()))


async def _until_complete(stage: Scene) -> None:
    """A generation of what is derived is complete."""
    settings, catalog = stage.pipe.configured()

    async def complete() -> bool:
        try:
            async with stores(settings, catalog) as opened:
                store = opened.derived(catalog.resources[RESOURCE])
                return (await store.generations()).on(await store.identity()).complete is not None
        except Outage:
            return False

    await eventually(complete, "a generation is complete", COMPLETE_SECONDS)


async def _drift(stage: Scene) -> Drift:
    """Once more if a generation was found to be void meanwhile: it is built again, and the API says so."""
    until = time.monotonic() + COMPLETE_SECONDS
    while True:
        await _until_complete(stage)
        try:
            return await drift(*stage.pipe.configured(), RESOURCE, None)
        except (Stop, Outage):
            if time.monotonic() > until:
                raise


async def _compared(stage: Scene, outcome: Outcome) -> None:
    """Every group of every counter and ranking, in the cell of what is derived, is what MongoDB says of it."""
    await stage.load.pause()
    await stage.pipe.passed(stage.load.writes.last_version, stage.load.shape.converge_seconds)
    found = await _drift(stage)
    wrong = [f"{one.declaration} of {one.group!r}: {one.redis}, not {one.mongodb}" for one in found.differences]
    outcome.add(IN_REDIS, Tally(len(wrong), found.groups, wrong[:3]))
    stage.load.gate.set()


async def _promoted(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int) -> None:
    """A replica takes over that has not heard of the last invalidations."""
    master = await cluster.owner(slot)
    (replica,) = await cluster.replicas_of(master)
    await stage.load.check(outcome)
    await stage.load.pause()
    await in_step(master, replica)
    async with _client(replica) as behind, _client(master) as ahead:
        await behind.config_set("masteruser", "nobody")
        await behind.config_set("masterauth", "nothing")
        await ahead.execute_command("CLIENT", "KILL", "TYPE", "replica")  # type: ignore[no-untyped-call]
    for key in stage.load.random.sample(range(stage.load.shape.keys), CHANGES):
        await stage.load.change(key)
    await stage.pipe.passed(stage.load.writes.last_version, 10)
    stage.load.gate.set()
    master.kill()
    began = time.monotonic()
    await ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
    await stage.load.recovered(outcome, began)
    await stage.load.check(outcome)
    async with _client(replica) as promoted:
        await promoted.config_set("masterauth", "")
        await promoted.config_set("masteruser", "")
    await master.restart(0)
    await in_step(replica, master)


async def _moved(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int, spare: RedisServer) -> None:
    """A cell is moved to another node and back, while it is read and written."""
    home = await cluster.owner(slot)
    for to in (spare, home):
        began = time.monotonic()
        await cluster.move(slot, to, pause=0.01)
        await stage.load.recovered(outcome, began)
    await stage.load.check(outcome)


async def _lost(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int) -> None:
    """All of a cell is gone: entries, registers, accounts."""
    master, began = await cluster.owner(slot), time.monotonic()
    while keys := await ask(master, "CLUSTER", "GETKEYSINSLOT", slot, 1000):
        await ask(master, "DEL", *keys)
        if time.monotonic() > began + 0.2:
            break  # what is written again meanwhile is what the pipeline writes
    await stage.load.recovered(outcome, began)
    await stage.load.check(outcome)


async def _refusing(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int) -> None:
    """A master takes no writes, for want of replicas."""
    master = await cluster.owner(slot)
    await ask(master, "CONFIG", "SET", "min-replicas-to-write", MORE_THAN_THERE_ARE)
    try:
        await asyncio.sleep(REFUSING_SECONDS)
    finally:
        began = time.monotonic()
        await ask(master, "CONFIG", "SET", "min-replicas-to-write", 0)
    await stage.load.recovered(outcome, began)


async def _frozen(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int, count: int) -> None:
    """A node neither answers nor refuses. The documents of others keep their bounds."""
    node = await cluster.owner(slot)
    frozen = {at for at in range(count) if await cluster.owner(_slot(stage, count, at)) is node}
    node.signal(SIGSTOP)
    try:
        await asyncio.sleep(SETTLED_SECONDS)
        await others_keep_their_bounds(stage.load, outcome, frozen, partitions=count)
    finally:
        node.signal(SIGCONT)
    await stage.load.recovered(outcome, time.monotonic())
    await stage.load.check(outcome)


async def _down(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int) -> None:
    """Every node refuses everything, since one slot is nobody's."""
    master = await cluster.owner(slot)
    (replica,) = await cluster.replicas_of(master)
    for node in cluster.living:
        await ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    master.kill()
    await asyncio.sleep(2.5)
    await ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
    began = time.monotonic()
    for node in cluster.living:
        await ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    await stage.load.recovered(outcome, began)
    await stage.load.check(outcome)
    await master.restart(0)
    await in_step(replica, master)


async def _doubled(stage: Scene) -> None:
    """The documents lie in other cells from now on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.pipe.broker.servers)
    await admin.start()
    try:
        await admin.create_partitions({stage.pipe.name: NewPartitions(total_count=2 * PARTITIONS)})
    finally:
        await admin.close()


def _client(server: RedisServer) -> Redis:
    return Redis(host=LOOPBACK, port=server.port)


EXPERIMENTS = (
    Experiment(
        number="28",
        fault="a Redis Cluster: a replica that lags is promoted, slots move, a cell is lost, nodes freeze",
        holds="each is a matter of the cells concerned: what they lack is applied again, others are not held up",
        run=cluster_under_load,
        controls={
            "what another Redis lacks is not looked at": STALE,
            "a contribution and what it changes are not one step": IN_REDIS,
        },
        short=1,
        long=4,
        long_controls=("what another Redis lacks is not looked at",),
    ),
)
