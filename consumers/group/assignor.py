"""How partitions are handed out: round-robin, with patience where the broker needs it.

Beside them goes what each member says of itself, see `neverstale.consumers.group.peers`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

PATIENCE_SECONDS: Final = 0.2


class PatientAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Round-robin; runs on the one member that leads a rebalance, once each. One object for each client.

    librdkafka's embedded broker refuses the members that ask for their assignment after the leader has handed it in
    (INVALID_REQUEST, in `rdkafka_mock_cgrp.c`), where Apache Kafka just answers them. So with it the leader
    lets the others ask first. It is known by naming no controller, which Apache Kafka always does.
    """

    def __init__(self, own: Callable[[], bytes], meet: Callable[[bytes], None]) -> None:
        """`own`: JSON that the others are to know of us, asked for at each join. `meet` is told what all say, as a
        JSON object by member id."""
        self._own = own
        self._meet = meet

    def metadata(self, topics: Iterable[str]) -> Any:
        return ConsumerProtocolMemberMetadata(self.version, list(topics), self._own())

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> Any:
        if cluster.controller is None and len(members) > 1:
            time.sleep(PATIENCE_SECONDS)
        told = orjson.dumps({member: _said(each.user_data) for member, each in members.items()})
        return {
            member: ConsumerProtocolMemberAssignment(each.version, each.assignment, told)
            for member, each in super().assign(cluster, members).items()
        }

    def on_assignment(self, assignment: Any) -> None:
        self._meet(assignment.user_data)


def _said(by: bytes | None) -> Any:
    """What is no JSON, as older consumers say it, is nothing."""
    try:
        return orjson.loads(by or b"null")
    except ValueError:
        return None
