"""What a node says of its cluster, as Redis spells it."""

from typing import Any, cast

from redis.asyncio import Redis

from neverstale.ops.redis.nodes import ClusterView, seen_from
from neverstale.settings.redis_url import Address

NODES = b"""\
aa 10.0.0.1:6379@16379,one master - 0 1 1 connected 0-5460 [5461->-bb]
bb 10.0.0.2:6379@16379 master,fail - 0 1 2 connected 5461-10921 10923-16383
cc :6380@16380 myself,slave aa 0 1 1 connected
dd fd00::4:6379@16379 slave,fail? bb 0 1 2 connected
ee :0@0 master,noaddr - 0 1 3 disconnected
ff 10.0.0.6:6379@16379 handshake - 0 1 4 disconnected
"""


class Told:
    async def execute_command(self, _: bytes, question: bytes) -> Any:
        return {b"NODES": NODES, b"INFO": b"cluster_enabled:1\r\ncluster_state:fail\r\n"}[question]


async def seen() -> ClusterView:
    return await seen_from(cast("Redis", Told()), Address("127.0.0.1", 6380))


async def test_each_node_is_where_it_can_be_reached_and_those_that_nobody_knows_are_left_out() -> None:
    view = await seen()
    assert [one.name for one in view.nodes] == ["10.0.0.1:6379", "10.0.0.2:6379", "127.0.0.1:6380", "fd00::4:6379"]
    assert [(one.is_master, one.fails) for one in view.nodes] == [
        (True, False),
        (True, True),
        (False, False),
        (False, False),
    ]
    assert view.state == "fail" and [one.id for one in view.replicas_of(view.nodes[0])] == ["cc"]


async def test_a_slot_belongs_to_the_node_that_holds_it_and_those_of_nobody_are_counted() -> None:
    view = await seen()
    assert [one.slots for one in view.nodes] == [5461, 10_922, 0, 0] and view.uncovered == 1
    assert view.holder(b"{foo}") == "10.0.0.2:6379"  # slot 12182
    assert view.holder(b"{bar}") == "10.0.0.1:6379"  # slot 5061
