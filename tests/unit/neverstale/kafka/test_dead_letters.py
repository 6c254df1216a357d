"""Dead letters as Kafka records."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.kafka.dead_letters import KEPT_BYTES, LARGEST_BYTES, Letter, topic_of
from neverstale.settings import Kafka

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BYTES = st.none() | st.binary(max_size=20)
LETTERS = st.builds(
    Letter,
    reason=TEXT,
    detail=TEXT,
    topic=TEXT,
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**63 - 1),
    key=BYTES,
    value=BYTES,
    headers=st.lists(st.tuples(st.sampled_from(["traceparent", "x"]), st.binary(max_size=5))).map(tuple),
    bytes_cut=st.none() | st.integers(1, 2**31),
)


def record(letter: Letter) -> Any:
    return SimpleNamespace(key=letter.key, value=letter.value, headers=letter.encode_headers())


def letter(**given: Any) -> Letter:
    fields: dict[str, Any] = {"key": b"k", "value": b"v"} | given
    return Letter("kind", "unknown", "changes", 3, 41, 1_000, **fields)


@given(LETTERS)
def test_a_letter_survives_its_record(letter: Letter) -> None:
    assert Letter.decode(record(letter)) == letter


def test_a_record_of_somebody_else_is_no_letter() -> None:
    with pytest.raises(ValueError, match="neverstale-reason is missing"):
        Letter.decode(SimpleNamespace(key=None, value=b"x", headers=()))


def test_what_fits_is_kept_as_it_is() -> None:
    whole = letter(value=b"v" * 1000, headers=(("traceparent", b"00"),))
    assert whole.fitting() is whole


@pytest.mark.parametrize(
    "large",
    [
        letter(value=b"v" * LARGEST_BYTES),
        letter(key=b"k" * (LARGEST_BYTES + 1), value=None),
        letter(headers=(("x", b"h" * LARGEST_BYTES),)),
    ],
)
def test_of_what_is_too_large_the_beginning_is_kept_and_the_size_told(large: Letter) -> None:
    cut = large.fitting()
    assert len(cut.key or b"") <= KEPT_BYTES and len(cut.value or b"") <= KEPT_BYTES and cut.headers == ()
    assert cut.bytes_cut == cut.size == large.size


def test_the_topic_of_dead_letters_has_one_partition_and_a_retention_of_its_own() -> None:
    kafka = topic_of(Kafka(topic="changes", partitions=12, dead_retention_ms=5))
    assert (kafka.topic, kafka.partitions, kafka.retention_ms) == ("changes.dead", 1, 5)
    assert topic_of(Kafka(dead_topic="elsewhere")).topic == "elsewhere"
