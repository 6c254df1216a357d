"""Kafka's errors: which of them no waiting ends, and what is said of those."""

import inspect
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.errors import KafkaError

from neverstale.errors import KafkaRefuses, Outage
from neverstale.kafka import refusals as kafka_refusals
from neverstale.kafka.producer import LARGEST_BATCH_BYTES, batch_bytes
from neverstale.kafka.refusals import REMEDIES, as_ours, at_the_door, refused
from neverstale.kafka.topic import LEAST_BATCH_BYTES, unfitness
from neverstale.role import retry
from neverstale.role.retry import Patience
from neverstale.settings import Kafka

SETTINGS = Kafka(bootstrap_servers="one:9092,two:9092", topic="mine", group="ours")
ALL: set[type[KafkaError]] = {
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, KafkaError)
} - {errors.BrokerResponseError}
"""But for the one that has no number of its own."""


@pytest.mark.parametrize("kind", sorted(ALL, key=str))
def test_every_refusal_has_a_remedy_and_every_other_error_is_an_outage(kind: type[KafkaError]) -> None:
    found = as_ours(kind("words"), SETTINGS)
    if kind in REMEDIES:
        assert isinstance(found, KafkaRefuses)
        assert kind.__name__ in found.reason and "mine" in found.reason
        assert found.remedy and "{" not in found.remedy
        assert str(found) == f"kafka refuses: {found.reason}; {found.remedy}"
    else:
        assert isinstance(found, Outage) and kind.__name__ in found.reason


def test_what_the_client_itself_would_try_again_is_no_refusal() -> None:
    assert not [kind for kind in REMEDIES if kind.retriable]


@pytest.mark.parametrize("passing", [OSError(), TimeoutError(), RuntimeError(), errors.UnknownError()])
def test_what_may_pass_is_no_refusal(passing: Exception) -> None:
    assert refused(passing, SETTINGS) is None


def test_an_error_of_a_kind_that_is_derived_is_judged_as_its_kind() -> None:
    class Derived(errors.TopicAuthorizationFailedError):  # type: ignore[misc]
        pass

    found = refused(Derived("mine"), SETTINGS)
    assert found is not None and "--topic mine" in found.remedy and "one:9092,two:9092" in found.remedy


@pytest.mark.parametrize(
    ("configs", "words", "remedy"),
    [
        ({}, None, ""),
        ({"cleanup.policy": "delete", "max.message.bytes": "1048588"}, None, ""),
        ({"cleanup.policy": "compact"}, "cleanup.policy=compact", "--add-config cleanup.policy=delete"),
        ({"cleanup.policy": "compact,delete"}, "compact,delete", "--add-config cleanup.policy=delete"),
        ({"max.message.bytes": str(LEAST_BATCH_BYTES)}, None, ""),
        (
            {"max.message.bytes": str(LEAST_BATCH_BYTES - 1)},
            "takes no mark",
            "--add-config max.message.bytes=1048588",
        ),
        ({"max.message.bytes": "0"}, "takes no mark", "max.message.bytes=1048588"),
    ],
)
def test_a_topic_whose_configuration_cannot_take_what_we_publish_is_refused(
    configs: dict[str, str], words: str | None, remedy: str
) -> None:
    found = unfitness(configs, SETTINGS)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert words in found.reason
        assert remedy in found.remedy and "--entity-name mine" in found.remedy


@pytest.mark.parametrize(
    ("told", "wanted"),
    [(None, LARGEST_BATCH_BYTES), (20_000, 20_000), (1 << 30, LARGEST_BATCH_BYTES)],
)
def test_batches_are_no_larger_than_the_topic_takes(told: int | None, wanted: int) -> None:
    assert batch_bytes(told) == wanted


class Connection:
    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([errors.SaslAuthenticationFailed("no"), Connection()], "kafka.sasl_password"),
        ([errors.AuthenticationFailedError("no"), Connection()], "kafka.sasl_password"),
        ([errors.KafkaConnectionError(), errors.UnsupportedSaslMechanismError("no")], "kafka.sasl_mechanism"),
        ([OSError(), TimeoutError()], None),
        ([errors.KafkaConnectionError(), errors.KafkaConnectionError()], None),
        ([Connection(), errors.SaslAuthenticationFailed("no")], None),
    ],
)
async def test_whoever_is_not_let_in_learns_why(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any], said: str | None
) -> None:
    asked: list[tuple[str, int]] = []

    async def create_conn(host: str, port: int, **_: Any) -> Any:
        asked.append((host, port))
        answer = answers[len(asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(kafka_refusals, "create_conn", create_conn)
    found = await at_the_door(SETTINGS)
    assert (found is None) is (said is None)
    assert found is None or said is None or said in found.remedy
    assert asked[0] == ("one", 9092)


def test_pauses_grow_while_it_is_refused_and_begin_anew_when_it_was_not_for_long() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    found = []
    for _ in range(12):
        found.append(patience.pause())
        now += found[-1]
    assert found[0] <= retry.FIRST_REFUSED_SECONDS
    assert retry.LONGEST_REFUSED_SECONDS / 2 <= found[-1] <= retry.LONGEST_REFUSED_SECONDS
    now += 2 * retry.LONGEST_REFUSED_SECONDS + 1
    assert patience.pause() <= retry.FIRST_REFUSED_SECONDS
