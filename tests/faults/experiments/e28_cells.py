"""28: a Redis Cluster under load: a replica that lags is promoted by hand, slots are moved to a new node and back, a
cell is lost, a node is frozen, all of it is down for want of a slot, and partitions are doubled."""

import asyncio
import time
from signal import SIGCONT, SIGSTOP
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from redis.asyncio import Redis
from redis.crc import key_slot

from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.stack.redis import RedisServer
from tests.faults.experiments.e19_21_redises import CHANGES, in_step
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import RESOURCE
from tests.faults.rig.scene import Scene, scene
from tests.support.redis_cluster import RedisCluster, ask

PARTITIONS: Final = 4
FROZEN_SECONDS: Final = 6.0
SETTLED_SECONDS: Final = 3.5
"""A consumer gives up on a node after two seconds, and leaves its cells behind."""
OLD_SECONDS: Final = 2.0
AGED: Final = "of other nodes, older than two seconds by their own bound"


async def cluster_under_load(turn: Turn) -> Outcome:
    outcome = Outcome()
    name = turn.bench.name("cluster")
    cluster = turn.bench.keep(await RedisCluster.start(turn.bench.data, prefix=name))
    spare = await cluster.add()
    await cluster.meet(spare)
    try:
        async with scene(turn, outcome, redis_url=cluster.url) as stage:
            for round_ in range(turn.rounds):
                count = PARTITIONS
                await _promoted(stage, outcome, cluster, _slot(stage, count, round_ % count))
                await _moved(stage, outcome, cluster, _slot(stage, count, (round_ + 1) % count), spare)
                await _lost(stage, outcome, cluster, _slot(stage, count, (round_ + 2) % count))
                if turn.rounds > 1:
                    await _frozen(stage, outcome, cluster, _slot(stage, count, (round_ + 3) % count), count)
                    await _down(stage, outcome, cluster, _slot(stage, count, round_ % count))
            if turn.rounds > 1:
                await _doubled(stage)
                await stage.load.recovered(outcome, time.monotonic())
                await stage.load.check(outcome)
    finally:
        cluster.kill()
    return outcome


def _slot(stage: Scene, count: int, partition: int) -> int:
    return int(key_slot(f"{stage.pipe.name}:{{default.{count}.{partition}}}:applied".encode()))


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


async def _frozen(stage: Scene, outcome: Outcome, cluster: RedisCluster, slot: int, count: int) -> None:
    """A node neither answers nor refuses. The documents of others keep their bounds."""
    node = await cluster.owner(slot)
    frozen = {at for at in range(count) if await cluster.owner(_slot(stage, count, at)) is node}
    node.signal(SIGSTOP)
    began = time.monotonic()
    try:
        await asyncio.sleep(SETTLED_SECONDS)
        connection = await Connection.open(stage.load.urls[0])
        while time.monotonic() < began + FROZEN_SECONDS:
            for key in range(40):
                partition = partition_of(record_key(stage.pipe.name, RESOURCE, f"i:{key}"), count)
                answer = await stage.load.ask(connection, key, stage.load.shape.readers)
                if answer is None or partition in frozen or "hit" not in answer.headers.get("cache-status", ""):
                    continue
                bound = answer.headers["neverstale-bound"]
                outcome.tally(AGED).note(bound == "unknown" or float(bound) > OLD_SECONDS, key, bound)
        connection.close()
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
        controls={"what another Redis lacks is not looked at": STALE},
        short=1,
        long=4,
        long_controls=("what another Redis lacks is not looked at",),
    ),
)
