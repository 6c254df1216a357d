"""Where the watcher starts, and what it makes of errors."""

from typing import cast
from unittest.mock import Mock

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, TopicAuthorizationFailedError
from pymongo.errors import AutoReconnect, OperationFailure
from structlog.testing import capture_logs

from neverstale.errors import KafkaRefuses, Outage, PositionLost, Stop
from neverstale.kafka.producer import LARGEST_BATCH_BYTES
from neverstale.kafka.refusals import as_ours
from neverstale.kafka.topic import LEAST_BATCH_BYTES, Topic
from neverstale.role.service import Health
from neverstale.settings import Settings
from neverstale.streams.checkpoint import Position
from neverstale.streams.cursor import Database
from neverstale.streams.error_codes import ours
from neverstale.streams.translate import Watched
from neverstale.streams.watcher import Start, Watcher, plan

POSITION = Position({"_data": "826B03E42000000005"}, 4)
IN_TOPIC_A = Position({"_data": "826B03E42000000005"}, 4, "a")
TOPIC = Topic("topic", 4, created=False, complaint=None)
CREATED = Topic("topic", 4, created=True, complaint=None)
MADE_AGAIN = Topic("topic", 4, created=False, complaint=None, id="b")
WIDER = Topic("topic", 6, created=False, complaint=None)


@pytest.mark.parametrize(
    ("stored", "topic", "lost", "start"),
    [
        (POSITION, TOPIC, None, Start(POSITION, None)),
        (None, TOPIC, None, Start(None, "no position is stored")),
        (None, CREATED, None, Start(None, "no position is stored")),
        (POSITION, TOPIC, "gone", Start(None, "gone")),
        (POSITION, CREATED, None, Start(POSITION, "the topic was created again")),
        (POSITION, MADE_AGAIN, None, Start(POSITION, None)),
        (IN_TOPIC_A, TOPIC, None, Start(IN_TOPIC_A, None)),
        (IN_TOPIC_A, MADE_AGAIN, None, Start(IN_TOPIC_A, "the topic was created again")),
        (POSITION, WIDER, None, Start(POSITION, "the topic has 6 partitions instead of 4")),
    ],
)
def test_the_start_follows_from_position_and_topic(
    stored: Position | None, topic: Topic, lost: str | None, start: Start
) -> None:
    assert plan(stored, topic, lost) == start


def test_of_several_errors_the_gravest_counts() -> None:
    away, lost, stop = Outage("kafka", "away"), PositionLost("gone"), Stop("a human must act")
    assert ours(ExceptionGroup("", [away, lost])) is lost
    assert ours(ExceptionGroup("", [ExceptionGroup("", [away, stop]), lost])) is stop
    assert ours(away) is away


def test_errors_of_the_drivers_are_outages_of_their_servers() -> None:
    for error, server in ((AutoReconnect(""), "mongodb"), (KafkaConnectionError(), "kafka")):
        found = ours(error)
        assert isinstance(found, Outage)
        assert found.server == server
    assert isinstance(ours(OperationFailure("", 286)), PositionLost)


def test_an_error_that_nobody_expected_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        ours(ExceptionGroup("", [Outage("kafka", "away"), ZeroDivisionError()]))


def test_a_position_knows_its_version() -> None:
    assert POSITION.version == 0x6B03E420_00000005


def a_watcher() -> Watcher:
    return Watcher(Settings(), Watched("nyc", ("flights",)), cast("Database", Mock()), Health())


def refusal(cause: Exception) -> KafkaRefuses:
    found = as_ours(cause, Settings().kafka)
    assert isinstance(found, KafkaRefuses)
    found.__cause__ = cause
    return found


def test_pauses_after_a_refusal_grow_further_than_those_after_an_outage() -> None:
    watcher = a_watcher()
    with capture_logs() as logs:
        refused = [watcher._judge(refusal(TopicAuthorizationFailedError("t"))) for _ in range(12)]
        away = [watcher._judge(Outage("kafka", "gone")) for _ in range(12)]
    assert refused[0] <= 0.5 and 15 <= refused[-1] <= 30
    assert max(away) == 5
    said = watcher.health.parts["kafka"]
    assert said == "gone"
    assert "kafka-acls" in logs[0]["reason"]


def test_what_is_too_large_is_halved_until_it_is_taken() -> None:
    watcher = a_watcher()
    with capture_logs():
        for _ in range(3):
            watcher._judge(refusal(MessageSizeTooLargeError()))
        assert watcher._fitting_bytes == LARGEST_BATCH_BYTES // 8
        for _ in range(30):
            watcher._judge(refusal(MessageSizeTooLargeError()))
    assert watcher._fitting_bytes == LEAST_BATCH_BYTES


def test_a_refusal_is_graver_than_an_outage_and_less_than_a_lost_position() -> None:
    away, no, lost = Outage("kafka", "away"), refusal(TopicAuthorizationFailedError("t")), PositionLost("gone")
    assert ours(ExceptionGroup("", [away, no])) is no
    assert ours(ExceptionGroup("", [no, lost])) is lost


JOINING = {
    "none joined": (("a", "b"), ("a", "b"), set()),
    "one joined": (("a",), ("a", "b"), {"b"}),
    "one left": (("a", "b"), ("a",), set()),
    "one for another": (("a",), ("b",), {"b"}),
    "a position that does not say": (None, ("a", "b"), set()),
}


@pytest.mark.parametrize("case", JOINING)
def test_what_was_not_watched_up_to_the_position_begins_with_a_floor(case: str) -> None:
    before, now, joined = JOINING[case]
    stored = Position({"_data": "82" + "0" * 16}, 4, "t", before)
    start = plan(stored, Topic("changes", 4, created=False, complaint=None, id="t"), None, now)
    assert (start.floor_reason, start.joined) == (None, frozenset(joined))


def test_floors_are_of_what_joined_alone() -> None:
    watched = Watched("shop", ("a", "b", "c"))
    assert [floor.collection for floor in watched.some_floors({"b", "z"}, 7, "joined")] == ["b"]
    assert all(floor.lost for floor in watched.some_floors({"b"}, 7, "joined"))
