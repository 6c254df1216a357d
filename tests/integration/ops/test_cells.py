"""Commands that look into Redis, where keys lie in the cells of a cluster of six nodes."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from neverstale.catalog import Catalog
from neverstale.keys import canonical
from neverstale.ops.auditor.counts import total
from neverstale.ops.auditor.main import audit_for
from neverstale.ops.check.findings import Finding
from neverstale.ops.console.looks import long_look, look
from neverstale.ops.redis.stores import stores
from neverstale.ops.repair.drift import drift
from neverstale.ops.repair.rebuild import rebuild
from neverstale.ops.status_tables import print_status
from neverstale.ops.why.group_story import why_group
from neverstale.ops.why.why import why
from neverstale.redis.entries import etag_of
from tests.support.redis_cluster import RedisCluster, ask
from tests.support.waiting import eventually
from tests.worlds.clustered import InCells, in_cells
from tests.worlds.consuming import PARTITIONS
from tests.worlds.deriving import RESOURCE
from tests.worlds.doctored import Patient, provokes
from tests.worlds.serving import flight

CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})
FLIGHTS = [flight(f"f{number}", day=number % 3, delay=number) for number in range(12)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    made = asyncio.run(RedisCluster.start(folder))
    yield made
    made.kill()


@pytest.fixture
async def world(mongo_uri: str, kafka_servers: str, cluster: RedisCluster) -> AsyncIterator[InCells]:
    async with in_cells(mongo_uri, kafka_servers, cluster.url) as made:
        await made.write(*FLIGHTS)
        yield made


async def test_each_command_finds_its_cell(
    world: InCells, cluster: RedisCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    await every_cell_is_told_of(world, capsys)
    await a_key_is_found_in_the_cell_of_its_partition(world)
    await groups_are_compared_and_counted_again(world)
    await an_auditor_finds_what_is_right_and_what_is_not(world)
    await the_console_sees_generations(world)
    await what_a_dead_master_holds_is_named_and_nothing_else(world, cluster)


async def every_cell_is_told_of(world: InCells, capsys: pytest.CaptureFixture[str]) -> None:
    status = await world.until_well()
    documents = {f"default.{PARTITIONS}.{number}" for number in range(PARTITIONS)}
    assert {one.cell for one in status.cells} == documents | {RESOURCE}
    assert all(one.watermark and not one.without for one in status.cells)
    assert [one.partition for one in status.partitions if one.watermark] == list(range(PARTITIONS))
    assert {one.role for one in status.roles} >= {"watcher", "consumer", "api"}
    assert all(one.version for one in status.registers) and len(status.registers) == 2 * len(status.cells)
    assert [one.role for one in status.nodes].count("master") == 3 and len(status.nodes) == 6
    assert {one.node for one in status.cells} <= {one.node for one in status.nodes}
    assert sum(one.slots for one in status.nodes) == 16_384
    for as_json in (True, False):
        print_status(status, as_json=as_json)
        told = capsys.readouterr().out
        assert documents <= ({one["cell"] for one in json.loads(told)["cells"]} if as_json else set(told.split()))


async def a_key_is_found_in_the_cell_of_its_partition(world: InCells) -> None:
    cells: set[str | None] = set()
    for key in (each["_id"] for each in FLIGHTS):
        if len(cells) > 1:
            break
        await world.read(f"/v1/{RESOURCE}/{key}")

        async def cached(key: str = key) -> bool:
            story, told = await why(world.settings, world.catalog, RESOURCE, key)
            cells.add(story.redis.cell)
            assert told.ok and story.partition is not None
            assert story.redis.cell == f"default.{PARTITIONS}.{story.partition.number}"
            return "is what MongoDB has now" in told.sentence and story.change_is_applied is True

        await eventually(cached, f"{key} is cached", 30)
    assert len(cells) > 1, "the flights lie on several partitions"
    async with stores(world.settings, world.catalog) as opened:
        found = await opened.of_document(world.resource, canonical("f1"))
        assert found.cell is not None
        name = found.cell.names.entry(RESOURCE, canonical("f1"))
        (raw,) = await found.cell.send(("GET", name))
        body = b'{"_id":"f1","origin":"a lie"}'
        await found.cell.send(("SET", name, raw[:80] + etag_of(body) + body, "KEEPTTL"))
    world.hot.hot.l1.clear()

    async def caught() -> bool:
        _, told = await why(world.settings, world.catalog, RESOURCE, "f1")
        return not told.ok and "this must not be" in told.sentence

    await eventually(caught, "the lie is seen, as soon as all before it is applied", 30)


async def groups_are_compared_and_counted_again(world: InCells) -> None:
    async def told() -> bool:
        story, verdict = await why_group(world.settings, world.catalog, RESOURCE, "delays", ["day=1"])
        assert verdict.ok and story.phase == "complete" and story.watermark is not None
        return "what MongoDB answers" in verdict.sentence

    await eventually(told, "the cache answers the counter", 30)
    found = await drift(world.settings, world.catalog, RESOURCE, None)
    assert found.ok and found.groups > 5
    async with stores(world.settings, world.catalog) as opened:
        store = opened.derived(world.resource)
        generation = (await store.generations()).complete
        assert generation is not None
        counter = store.names.of(generation.id).counter("all")
        (fields,) = await opened.of_derived(world.resource).send(("HKEYS", counter))
        (field,) = [one for one in fields if one[:1] == b"n"]
        await opened.of_derived(world.resource).send(("HINCRBY", counter, field, 5))
    found = await drift(world.settings, world.catalog, RESOURCE, "all")
    assert not found.ok and len(found.differences) == 1
    done = await rebuild(world.settings, world.catalog, RESOURCE, None, quiet=True)
    assert done.end == "complete"
    assert (await drift(world.settings, world.catalog, RESOURCE, None)).ok


async def an_auditor_finds_what_is_right_and_what_is_not(world: InCells) -> None:
    given = {
        "urls": f"http://127.0.0.1:{world.hot.port}",
        "reads_per_second": 500,
        "mongodb_reads_per_second": 200,
        "again_seconds": 0.5,
    }
    audited = world.settings.auditor.model_copy(update=given)
    parts = await audit_for(world.settings.model_copy(update={"auditor": audited}), world.catalog, 2.0)
    counts = parts.auditor.ledger.all
    assert total(counts.values()).checked > 20
    assert {about for about, one in counts.items() if one.wrong} == {(RESOURCE, "documents")}
    evidence = parts.witness.kept[0]
    assert evidence["path"] == f"/v1/{RESOURCE}/f1" and evidence["entry"]["state"] == "data"
    assert evidence["cell"] == f"default.{PARTITIONS}.{evidence['partition']}" and evidence["kafka"]


async def the_console_sees_generations(world: InCells) -> None:
    status = (await look(world.settings, world.catalog, [])).status
    seen = await long_look(world.settings, world.catalog, status)
    assert seen.generations is not None and [one.phase for one in seen.generations[RESOURCE]] == ["complete"]


async def what_a_dead_master_holds_is_named_and_nothing_else(world: InCells, cluster: RedisCluster) -> None:
    status = await world.status()
    (derived,) = (one for one in status.cells if one.resource == RESOURCE)
    (master,) = (one for one in cluster.nodes if derived.node == f"127.0.0.1:{one.port}")
    (replica,) = await cluster.replicas_of(master)
    lost = {one.cell for one in status.cells if one.node == derived.node}
    master.kill()
    status = await world.status()
    assert {RESOURCE} <= {one.cell for one in status.cells if one.problem} <= lost
    assert not any("no mark" in one or "stands" in one for one in status.problems)
    assert f"node {derived.node} of Redis cannot be used: no connection" in status.problems
    assert not any("runs" in one for one in status.problems), "whose card lies there is not missing"
    await ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
    await master.restart(0)
    await world.until_well()


# --- what doctor says of a cluster that is set up badly, and of one that is broken


OF_NODES = ("versions", "memory", "persistence", "replicas", "pubsub", "connections", "exposure", "cluster")


@pytest.fixture
def patient(mongo_uri: str, kafka_servers: str, topic: str, cluster: RedisCluster) -> Patient:
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_REDIS__URL": cluster.url,
    }
    return Patient(environ, CATALOG)


async def paste(cluster: RedisCluster, remedy: str) -> None:
    """Do what the lines say, each on the node that it names."""
    for line in remedy.splitlines():
        words = shlex.split(line, comments=True)
        if words[1] == "-u":
            port, command = words[2].rpartition(":")[2], words[3:]
        else:
            assert (words[1], words[3]) == ("-h", "-p")
            port, command = words[4], words[5:]
        (node,) = (one for one in cluster.nodes if one.port == int(port))
        await ask(node, *command)


@provokes("subscribers-cut")
async def test_what_is_wrong_with_some_nodes_is_said_with_their_names_and_mended_there(
    patient: Patient, cluster: RedisCluster
) -> None:
    well = await patient.found("cluster", "memory", "clocks")
    assert [one.message for one in well if one.check == "cluster"] == ["3 masters hold all slots, each has a replica"]
    assert [one.message for one in well if one.check == "memory"] == ["6 of 6 nodes are well"]
    few = cluster.nodes[1], cluster.nodes[4]
    for node in few:
        await ask(node, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 1048576 262144 60")
    [found] = await patient.findings("pubsub")
    assert set(found.message.partition(": ")[0].removeprefix("nodes ").split(", ")) == {
        f"127.0.0.1:{node.port}" for node in few
    }
    await paste(cluster, found.remedy)
    assert await patient.findings("pubsub") == []


@provokes("node-failed", "master-alone", "slots-uncovered", "cluster-down")
async def test_a_cluster_that_breaks_is_told_of_piece_by_piece_and_the_lines_mend_it(
    patient: Patient, cluster: RedisCluster
) -> None:
    master = await cluster.owner(0)
    (replica,) = await cluster.replicas_of(master)
    replica.kill()
    found = await until(patient, "node-failed", "master-alone")
    assert {one.level for one in found} == {"warning"}
    assert any(f"127.0.0.1:{master.port} has no replica" in one.message for one in found)
    await replica.restart(0)
    await until(patient)

    for node in cluster.nodes:
        await ask(node, "CLUSTER", "DELSLOTS", 0)
    [gap] = await until(patient, "slots-uncovered")
    assert gap.level == "problem" and gap.message.startswith("1 slots are held by no node")
    await ask(master, "CLUSTER", "ADDSLOTS", 0)
    await until(patient)

    for node in cluster.nodes:
        await ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    master.kill()
    [down, failed] = await until(patient, "cluster-down", "node-failed")
    assert (down.level, failed.level) == ("problem", "problem")
    assert f"master 127.0.0.1:{master.port} has failed" in failed.message
    for node in cluster.living:
        await ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    await paste(cluster, down.remedy)
    found = await until(patient, "node-failed", "master-alone")
    assert {one.level for one in found} == {"warning"}, "somebody else holds its slots"


async def until(patient: Patient, *names: str) -> list[Finding]:
    """What is found of the cluster, as soon as it is that."""
    held: list[Finding] = []

    async def so() -> bool:
        held[:] = await patient.findings("cluster")
        return {one.name for one in held} == set(names)

    await eventually(so, f"doctor finds {names or 'nothing wrong'}", 40)
    return list(held)
