"""Workers hand their metrics to the supervisor, which adds them up. (As processes: tests/integration/api.)"""

import os
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from neverstale.role import telemetry
from neverstale.role.workers import Colleague, WorkersMetrics
from tests.support.waiting import eventually


@pytest.fixture
def supervisor() -> Iterator[WorkersMetrics]:
    metrics = WorkersMetrics()
    yield metrics
    metrics.close()


def commits(shown: bytes) -> float:
    for family in text_string_to_metric_families(shown.decode()):
        for sample in family.samples:
            if sample.name == "neverstale_commits_total" and sample.labels == {"result": "test"}:
                return sample.value
    return 0.0


async def test_whoever_is_asked_tells_what_all_have_counted_and_what_ended_stays(
    supervisor: WorkersMetrics,
) -> None:
    telemetry.COMMITS.labels("test").inc(3)
    one, other = (Colleague(supervisor.address) for _ in range(2))

    async def all_tell() -> bool:
        return commits(await one.all()) == commits(await other.all()) == 6

    await eventually(all_tell, "both are added", 10)
    with socket.socket(fileno=os.dup(other._connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)  # as when its process ends

    async def one_has_ended() -> bool:
        await one.all()
        return len(supervisor._workers) == 1

    await eventually(one_has_ended, "one has ended", 10)
    telemetry.COMMITS.labels("test").inc()
    assert commits(await one.all()) == 4 + 3, "what is left counts on, and what ended stays as it was"
