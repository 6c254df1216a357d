"""What a real server stores of the values that the properties are made of (`tests/properties/raw_bson.py`)."""

from collections.abc import Sequence
from itertools import count

from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from tests.properties.raw_bson import KINDS, ODD, Value, document, keys, long, values

_SLOWLY = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
_NUMBERS = count()


def _stored(mongo_uri: str, database: str, raws: Sequence[bytes]) -> Sequence[bytes]:
    """What a server has of these documents, in their order."""
    with MongoClient(mongo_uri, document_class=RawBSONDocument) as client:
        collection = client[database][f"raw{next(_NUMBERS)}"]
        collection.insert_many([RawBSONDocument(raw) for raw in raws])
        return [bytes(one.raw) for one in collection.find(sort=[("$natural", 1)])]


def _in_documents(some: Sequence[Value]) -> Sequence[bytes]:
    return [document(long(i).named("_id"), value.named("v")) for i, value in enumerate(some)]


def test_a_server_stores_every_odd_value_as_it_is(mongo_uri: str, database: str) -> None:
    assert {value.kind for value in ODD.values()} == set(KINDS)
    raws = _in_documents(list(ODD.values()))
    assert _stored(mongo_uri, database, raws) == raws


def test_a_server_stores_every_value_that_is_generated(mongo_uri: str, database: str) -> None:
    @_SLOWLY
    @given(st.lists(values(), min_size=10, max_size=20))
    def stored(some: list[Value]) -> None:
        assert _stored(mongo_uri, database, _in_documents(some)) == _in_documents(some)

    stored()


def test_a_server_takes_every_generated_key(mongo_uri: str, database: str) -> None:
    @_SLOWLY
    @given(st.lists(keys(), min_size=1, max_size=10, unique=True))
    def taken(some: list[Value]) -> None:
        for value in some:  # some are equal in MongoDB although their bytes are not
            raw = document(value.named("_id"))
            assert _stored(mongo_uri, database, [raw]) == [raw]

    taken()
