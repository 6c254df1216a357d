"""A member of the group, with a client of Kafka that behaves as aiokafka does in bad moments."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndTimestamp

from neverstale.consumers.apply import Outcome
from neverstale.consumers.group import member
from neverstale.consumers.group.member import Consumed, Member
from neverstale.consumers.group.peers import Peers
from neverstale.consumers.records.batch import Batch, Folding
from neverstale.consumers.replay import Accounts, Gap
from neverstale.keys import Names
from neverstale.redis.corrections import Corrections
from neverstale.role.retry import Wanted
from neverstale.role.service import Health
from neverstale.settings import Kafka, Settings
from tests.unit.consumers.records.test_batch import CATALOG


class Coordinator:
    _coordination_task = _heartbeat_task = None

    async def close(self) -> None:
        pass


class SelfCancelling:
    """Passes the cancellation of a task of its own on to its caller, as `AIOKafkaConsumer.stop` does."""

    _fetcher = _client = None

    def __init__(self, **options: Any) -> None:
        self.stopped = 0
        self._coordinator = Coordinator()

    def subscribe(self, topics: list[str], listener: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped += 1
        await self.getmany()

    async def getmany(self, **options: Any) -> dict[Any, Any]:
        own = asyncio.create_task(asyncio.sleep(60))
        own.cancel()
        await own
        return {}


@dataclass(frozen=True)
class Record:
    offset: int
    key: bytes | None = None
    value: bytes | None = None


class Rewound:
    """A log with holes (partition -> the offsets of its records), and where reading goes on."""

    def __init__(self, log: dict[int, list[int]], oldest_to_replay: int | None = 0) -> None:
        self._log = log
        self._oldest_to_replay = oldest_to_replay
        self.positions = dict.fromkeys(log, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition.partition not in self._log:
            raise IllegalStateError("not assigned")
        self.positions[partition.partition] = offset

    async def getmany(self, **options: Any) -> dict[TopicPartition, list[Record]]:
        """The next record of each partition."""
        found = {}
        for number, offsets in self._log.items():
            if left := [offset for offset in offsets if offset >= self.positions[number]]:
                found[TopicPartition("t", number)] = [Record(left[0], value=b"{}")]
                self.positions[number] = left[0] + 1
        return found

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        found = None if self._oldest_to_replay is None else OffsetAndTimestamp(self._oldest_to_replay, 0)
        return dict.fromkeys(times, found)


class Taken:
    """Redis, which says of each batch what it is told to say, and notes where the batch began."""

    def __init__(self) -> None:
        self.begins: list[dict[int, int]] = []
        self.forgotten: list[set[str]] = []
        self.gaps: dict[int, Gap] = {}

    async def apply(self, batch: Batch, wanted: Wanted) -> Outcome:
        self.begins.append(dict(batch.begins))
        self.forgotten.append(batch.forget)
        gaps, self.gaps = self.gaps, {}
        return Outcome(applied=True, gaps=gaps)


def consumed(redis: Taken) -> Consumed:
    accounts = Accounts(Corrections.__new__(Corrections), "group", CATALOG.collections, Health())
    return Consumed(Kafka(topic="t"), 10, 900, Folding(CATALOG, Names("ns")), accounts, redis.apply, "", "h-1")


def rewinding(kafka: Rewound) -> tuple[Member, Taken]:
    redis = Taken()
    return Member(cast("AIOKafkaConsumer", kafka), consumed(redis), asyncio.Event(), Peers()), redis


async def apply_next(made: Member) -> None:
    fetched = await made.fetch()
    assert fetched is not None
    await made.apply(fetched)


async def test_what_redis_lacks_is_fetched_again_and_what_was_fetched_meanwhile_too() -> None:
    kafka = Rewound({0: [0, 1, 2, 3], 1: [0, 1, 2, 3]})
    made, redis = rewinding(kafka)
    await apply_next(made)
    redis.gaps = {0: Gap(0, 1)}
    await apply_next(made)
    assert made.lags
    dropped = await made.fetch()
    assert await made.go_back(dropped) is None
    assert kafka.positions == {0: 0, 1: 2}
    assert not made.lags


async def test_a_hole_in_the_log_is_not_taken_for_something_that_redis_lacks() -> None:
    made, redis = rewinding(Rewound({0: [5, 9]}))
    redis.gaps = {0: Gap(3, 5)}  # it holds 3, and the log has nothing between
    await apply_next(made)
    await made.go_back(None)
    await apply_next(made)
    await apply_next(made)
    assert redis.begins == [{0: 5}, {0: 3}, {0: 9}]


@pytest.mark.parametrize("oldest", [4, None], ids=["some are young enough", "none is"])
async def test_what_is_too_old_to_be_applied_again_makes_everything_void(oldest: int | None) -> None:
    kafka = Rewound({0: [5, 6]}, oldest_to_replay=oldest)
    made, redis = rewinding(kafka)
    redis.gaps = {0: Gap(3, 5)}
    await apply_next(made)
    first = await made.go_back(await made.fetch())
    assert first is not None
    await made.apply(first)
    assert redis.forgotten[-1] == set(CATALOG.collections)
    assert kafka.positions == {0: 5}


async def test_what_a_batch_found_lacking_does_not_outlive_the_assignment() -> None:
    made, redis = rewinding(Rewound({0: [0, 1, 2]}))
    redis.gaps = {0: Gap(0, 1)}
    await apply_next(made)
    assert made.lags
    await made.on_partitions_revoked([])
    assert not made.lags


async def test_a_batch_of_an_assignment_that_has_ended_is_neither_applied_nor_wanted() -> None:
    made, redis = rewinding(Rewound({0: [0, 1, 2]}))
    fetched = await made.fetch()
    assert fetched is not None and fetched.assignment
    await made.on_partitions_revoked([])
    await made.apply(fetched)
    assert redis.begins == [] and not fetched.assignment


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> SelfCancelling:
    client = SelfCancelling()
    monkeypatch.setattr(member, "AIOKafkaConsumer", lambda **options: client)
    return client


def membership() -> Any:
    return member.membership(Settings(), consumed(Taken()), asyncio.Event())


async def test_a_client_that_cancels_a_task_of_its_own_while_it_closes_does_not_end_the_consumer(
    client: SelfCancelling,
) -> None:
    async with membership():
        pass
    assert client.stopped == 1


async def test_a_client_that_cancels_its_own_fetch_has_failed(client: SelfCancelling) -> None:
    async with membership() as made:
        with pytest.raises(KafkaError):
            await made.fetch()


async def test_a_cancellation_that_is_meant_for_us_is_none_of_the_clients(client: SelfCancelling) -> None:
    async def consume() -> None:
        async with membership():
            await asyncio.sleep(60)

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.stopped == 1
