"""What a look-up makes of what MongoDB finds, and where it lies."""

import datetime
from collections.abc import Mapping
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from neverstale.api.derived.generations import Known
from neverstale.api.derived.lookups import LookupSource
from neverstale.api.reads.answer import NotUnique
from neverstale.api.reads.source import has_something
from neverstale.catalog import Resource
from neverstale.derived.generations import Generation
from neverstale.derived.redis_names import DerivedNames, slot_of
from neverstale.keys import Names
from neverstale.mongodb import bson_json
from neverstale.mongodb.loader import OFF_LOOP_BYTES, Found, Loader
from neverstale.redis.cache import Cache
from neverstale.redis.entries import etag_of
from neverstale.versions import Version

USERS = Resource.model_validate(
    {"name": "users", "key_type": "int", "lookups": ["email"], "expires_field": "ends", "on_change": "refresh"}
)
ENDS = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class Chosen:
    """The generation that is chosen by hand."""

    names, moment = DerivedNames("ns", "users"), object()
    generation: Generation | None = None

    def for_list(self, name: str, digest: str) -> Generation | None:
        return self.generation


class Finding:
    """MongoDB, which has some documents with a value."""

    def __init__(self, documents: Mapping[str, list[dict[str, Any]]], *, cut: bool = False, size: int = 0) -> None:
        self._documents = documents
        self._cut, self._size = cut, size
        self.asked: list[tuple[Version, Version]] = []

    async def query(self, command: Mapping[str, Any], at_least: Version, at: Version = 0) -> Found:
        self.asked.append((at_least, at))
        rows = self._documents[command["filter"]["email"]["$eq"]][: command["limit"]]
        return Found(7, rows, self._cut, size=self._size)


def source() -> LookupSource:
    return LookupSource(USERS, "email", Cache(cast("Redis", None), Names("ns")), cast("Known", Chosen()))


@pytest.mark.parametrize("size", [0, OFF_LOOP_BYTES + 1])
async def test_one_document_is_the_answer_none_an_absence_and_two_are_refused(size: int) -> None:
    one = {"_id": 1, "email": "a", "ends": ENDS}
    emails = source()
    keys = [emails.key(value) for value in ("a", "nobody", "b", "c")]
    mongodb = Finding({"a": [one], "nobody": [], "b": [{"_id": 2}, {"_id": 3}], "c": [{"_id": 4}] * 3}, size=size)
    snapshot = await emails.load(cast("Loader", mongodb), keys, 5)
    body = bson_json.encode(one)
    assert snapshot.bodies == {"s:a": body}
    assert snapshot.etag("s:a") == etag_of(body)
    assert snapshot.expiries == {"s:a": round(ENDS.timestamp() * 1000)}
    assert {key: type(error) for key, error in snapshot.refused.items()} == {"s:b": NotUnique, "s:c": NotUnique}
    assert [has_something(emails, snapshot, key.canonical) for key in keys] == [True, False, True, True]
    assert mongodb.asked == [(5, 0), *[(5, 7)] * 3], "all at the version of the first"


async def test_a_document_that_one_reply_does_not_hold_beside_another_is_one_of_two() -> None:
    emails = source()
    mongodb = Finding({"a": [{"_id": 1}]}, cut=True)
    snapshot = await emails.load(cast("Loader", mongodb), [emails.key("a")], 5)
    assert not snapshot.bodies and set(snapshot.refused) == {"s:a"}


def test_an_absence_is_one_to_whoever_holds_off_made_up_values() -> None:
    assert source().is_absence(None) and not source().is_absence(b"{}")


def test_a_value_lies_in_the_present_generation_and_is_announced_by_its_slot() -> None:
    emails = source()
    entry, place = emails.locate(emails.key("a@b"))
    assert (entry, place.generation) == (b"ns:{users}:-:l:lookups.email:s:a@b:1", None)
    assert place.group == b"users|lookups.email|" + slot_of("s:a@b")
    long = emails.locate(emails.key("x" * 500))[0]
    assert len(long) < 100, "long values are cut to a digest"
