"""What an answer shows, whoever spelled it."""

import pytest

from benchmarks.peers.sink import document
from benchmarks.stale.readers import revision_of


@pytest.mark.parametrize("body", [b'{"rev":7}', b'{"rev":{"$numberInt":"7"}}', b'{"rev":{"$numberLong":"7"}}'])
def test_a_revision_is_read_however_a_connector_spells_numbers(body: bytes) -> None:
    assert revision_of(body) == 7


@pytest.mark.parametrize(
    ("kind", "key", "value", "found"),
    [
        ("debezium", b'{"id":"\\"a:b\\""}', b'{"after":"{\\"rev\\": 7}","op":"u"}', ("a:b", b'{"rev": 7}')),
        ("debezium", b'{"id":"\\"a:b\\""}', b'{"after":null,"op":"d"}', ("a:b", None)),
        ("mongo-kafka", b"any", b'{"documentKey":{"_id":"a:b"},"fullDocument":{"rev":7}}', ("a:b", b'{"rev":7}')),
        ("mongo-kafka", b"any", b'{"documentKey":{"_id":"a:b"},"operationType":"delete"}', ("a:b", None)),
        ("mongo-kafka", b"any", b'{"documentKey":{"_id":"a:b"},"fullDocument":null}', ("a:b", None)),
    ],
)
def test_the_sink_reads_what_each_connector_writes(
    kind: str, key: bytes, value: bytes, found: tuple[str, bytes | None]
) -> None:
    assert document(kind, key, value) == found
