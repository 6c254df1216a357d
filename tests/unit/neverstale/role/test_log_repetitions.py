"""What is said again and again, by us and by libraries, is said once in a while."""

import io
import json
import logging

import pytest

from neverstale.role.log_repetitions import REMEMBERED, Repetitions, Seldom
from neverstale.role.telemetry import configure_logging
from neverstale.settings import Service

MISSING = "Topic %s not found in cluster metadata"


def said(repetitions: Repetitions, *messages: str, name: str = "aiokafka.cluster") -> list[str]:
    records = [logging.LogRecord(name, logging.ERROR, "", 0, MISSING, (topic,), None) for topic in messages]
    return [record.getMessage() for record in records if repetitions.filter(record)]


def test_the_same_is_said_once_and_something_else_at_once() -> None:
    repetitions = Repetitions(["aiokafka"], clock=lambda: 0.0)
    assert said(repetitions, "a", "a", "b", "a") == [MISSING % "a", MISSING % "b"]


def test_after_a_while_it_is_said_again_with_how_often_it_was_not() -> None:
    now = 0.0
    repetitions = Repetitions(["aiokafka"], 60, lambda: now)
    said(repetitions, "a", "a", "a")
    now = 60.0
    assert said(repetitions, "a", "a") == [f"{MISSING % 'a'} (3 times)"]


def test_others_may_repeat_themselves() -> None:
    assert len(said(Repetitions(["aiokafka"]), "a", "a", name="neverstale.consumers.apply")) == 2


def test_only_so_much_is_remembered() -> None:
    repetitions = Repetitions(["aiokafka"], clock=lambda: 0.0)
    assert len(said(repetitions, *map(str, range(3 * REMEMBERED)))) == 3 * REMEMBERED
    assert len(repetitions._said) <= REMEMBERED


@pytest.fixture
def logging_restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("logging_restored")
def test_roles_say_once_that_a_topic_is_missing() -> None:
    stream = io.StringIO()
    configure_logging(Service(log_format="json"), stream)
    for _ in range(100):
        logging.getLogger("aiokafka.cluster").error(MISSING, "changes")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "Topic changes not found in cluster metadata"


def test_a_thing_is_said_at_once_and_then_seldom_with_how_often_it_happened() -> None:
    now = 0.0
    seldom = Seldom(10.0, clock=lambda: now)
    assert seldom.due() == 1
    assert (seldom.due(2), seldom.due()) == (None, None)
    now = 10.0
    assert seldom.due() == 4
