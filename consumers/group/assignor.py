"""How partitions are handed out: round-robin, with patience where the broker needs it."""

import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

PATIENCE_SECONDS: Final = 0.2


class PatientAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Round-robin; runs on the one member that leads a rebalance, once each.

    librdkafka's embedded broker refuses the members that ask for their assignment after the leader has handed it in
    (INVALID_REQUEST, in `rdkafka_mock_cgrp.c`), where Apache Kafka just answers them. So with it the leader
    lets the others ask first. It is known by naming no controller, which Apache Kafka always does.
    """

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> Any:
        if cluster.controller is None and len(members) > 1:
            time.sleep(PATIENCE_SECONDS)
        return super().assign(cluster, members)
