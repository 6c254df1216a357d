"""Where the watcher starts, and what it makes of errors."""

import pytest
from aiokafka.errors import KafkaConnectionError
from pymongo.errors import AutoReconnect, OperationFailure

from neverstale.errors import Outage, PositionLost, Stop
from neverstale.topic import Topic
from streams.checkpoint import Position
from streams.watcher import Start, ours, plan

POSITION = Position({"_data": "826B03E42000000005"}, 4)
IN_TOPIC_A = Position({"_data": "826B03E42000000005"}, 4, "a")
TOPIC = Topic("topic", 4, created=False, complaint=None)
CREATED = Topic("topic", 4, created=True, complaint=None)
MADE_AGAIN = Topic("topic", 4, created=False, complaint=None, incarnation="b")
WIDER = Topic("topic", 6, created=False, complaint=None)


@pytest.mark.parametrize(
    ("stored", "topic", "lost", "start"),
    [
        (POSITION, TOPIC, None, Start(POSITION, None)),
        (None, TOPIC, None, Start(None, "no position is stored")),
        (None, CREATED, None, Start(None, "no position is stored")),
        (POSITION, TOPIC, "gone", Start(None, "gone")),
        (POSITION, CREATED, None, Start(POSITION, "the topic was created anew")),
        (POSITION, MADE_AGAIN, None, Start(POSITION, None)),
        (IN_TOPIC_A, TOPIC, None, Start(IN_TOPIC_A, None)),
        (IN_TOPIC_A, MADE_AGAIN, None, Start(IN_TOPIC_A, "the topic was created anew")),
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
