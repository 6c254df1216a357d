"""The whole pipeline on a Redis Cluster with TLS, where each user has on each node what the docs say, and no more."""

from collections.abc import Iterator

import pytest

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.commands import Commands
from neverstale.redis.nodes import nodes_of
from tests.support.stack import run
from tests.worlds.secured import PATIENT_MS
from tests.worlds.secured_cluster import ClusterPlace, cluster_for
from tests.worlds.secured_pipeline import FLIGHTS, PATHS, RESOURCE, Place, pipeline, soon, until_hit


@pytest.fixture(scope="module")
def on_cluster(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterPlace]:
    made = run(cluster_for(place, tmp_path_factory.mktemp("secured-cluster")))
    yield made
    made.cluster.kill()


async def test_the_pipeline_runs_on_a_cluster_with_the_users_and_rights_of_the_docs(on_cluster: ClusterPlace) -> None:
    async with on_cluster.writing() as flights:
        await flights.delete_many({})
        try:
            async with pipeline(on_cluster) as http:
                await flights.update_one({"_id": "1"}, {"$set": {"delay": 100}})
                await flights.delete_one({"_id": "2"})
                await soon(http, PATHS[0], 100, at="delay")
                await soon(http, PATHS[2], FLIGHTS - 1, at="count")
                for path in PATHS:
                    await until_hit(http, path)
                await until_hit(http, PATHS[0], "detail=l1")
                await soon(http, f"/v1/{RESOURCE}/-/most-read/1", "1", at="key")
        finally:
            await flights.delete_many({})
    assert await on_cluster.refusals() == []


@pytest.mark.parametrize(("lacking", "nodes"), [("+cluster|slots", None), ("+script|load", 1), ("+evalsha", None)])
async def test_what_the_nodes_or_one_of_them_refuse_is_said(
    on_cluster: ClusterPlace, lacking: str, nodes: int | None
) -> None:
    await on_cluster.allow("api", but=lacking, nodes=nodes)
    reached = nodes_of(on_cluster.settings("api").redis, timeout_ms=PATIENT_MS)
    commands = Commands(None, Names(on_cluster.base.redis.prefix), round_trip=reached.send)
    try:
        with pytest.raises(Outage) as refused:
            limit = await commands.call("limit", [commands.names.limit(b"somebody")], ["1000.0", 5, 1])
            await commands.send(limit)
        assert refused.value.reason.startswith("NoPermissionError")
    finally:
        await reached.aclose()
        await on_cluster.allow("api")
