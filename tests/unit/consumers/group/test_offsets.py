"""Offsets: only what is applied and still ours is committed, and a failure loses nothing."""

from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError

from neverstale.consumers.group.offsets import Offsets


class Group:
    """What is assigned, and what was committed."""

    def __init__(self, *assigned: int) -> None:
        self.assigned = set(assigned)
        self.committed: list[dict[int, int]] = []
        self.error: BaseException | None = None

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("t", number) for number in self.assigned}

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        if self.error:
            raise self.error
        assert {by for _, by in offsets.values()} == {"h-1"}
        self.committed.append({partition.partition: offset for partition, (offset, _) in offsets.items()})


async def commit(offsets: Offsets, group: Group) -> None:
    await offsets.commit(cast("AIOKafkaConsumer", group), 1.0)


async def test_each_applied_offset_is_committed_once() -> None:
    offsets, group = Offsets("t", "h-1"), Group(0, 1)
    offsets.applied({0: 5, 1: 7})
    await commit(offsets, group)
    await commit(offsets, group)
    offsets.applied({1: 9})
    await commit(offsets, group)
    assert group.committed == [{0: 5, 1: 7}, {1: 9}]


async def test_nothing_is_committed_for_a_partition_that_is_not_assigned() -> None:
    offsets, group = Offsets("t", "h-1"), Group(1)
    offsets.applied({0: 5, 1: 7})
    await commit(offsets, group)
    assert group.committed == [{1: 7}]


async def test_what_was_applied_before_a_rebalance_is_forgotten() -> None:
    offsets, group = Offsets("t", "h-1"), Group(0)
    offsets.applied({0: 5})
    offsets.forget()
    await commit(offsets, group)
    assert group.committed == []


@pytest.mark.parametrize("error", [CommitFailedError(), KafkaError(), TimeoutError(), RuntimeError()])
async def test_a_failed_commit_is_due_again(error: BaseException) -> None:
    offsets, group = Offsets("t", "h-1"), Group(0)
    offsets.applied({0: 5})
    group.error = error
    await commit(offsets, group)
    group.error = None
    await commit(offsets, group)
    assert group.committed == [{0: 5}]
