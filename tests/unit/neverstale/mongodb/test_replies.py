"""Replies of cursors: whole where the driver is exact, document by document where it is not."""

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from neverstale.mongodb.replies import AT_ONCE_BYTES, REPLY, RawReply, Reply, split, undecoded_bytes
from tests.properties.raw_bson import ODD, document, string

USUAL = {"_id": 2, "nested": {"a": [1, 2.5]}}


def replied(*rows: bytes, batch: str = "firstBatch") -> Reply:
    cursor = {"id": 7, "ns": "d.c", batch: [RawBSONDocument(row) for row in rows]}
    return Reply.of(RawReply(bson.encode({"cursor": cursor, "ok": 1.0}), REPLY))


@pytest.mark.parametrize("batch", ["firstBatch", "nextBatch"])
def test_a_usual_reply_is_decoded_at_once(batch: str) -> None:
    reply = replied(bson.encode(USUAL), batch=batch)
    assert list(reply.rows) == reply.documents() == [USUAL]
    assert (reply.cursor["id"], undecoded_bytes(reply.rows)) == (7, 0)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_document_is_nothing_to_its_neighbours(odd: Any) -> None:
    raw = document(string("k").named("_id"), odd.named("v"))
    reply = replied(raw, bson.encode(USUAL))
    first, second = reply.documents()
    assert (first["_id"], second, reply.cursor["id"]) == ("k", USUAL, 7)


def test_a_large_reply_is_decoded_when_somebody_asks() -> None:
    rows = [bson.encode({"_id": number, "text": "x" * 4000}) for number in range(AT_ONCE_BYTES // 4000 + 1)]
    reply = replied(*rows)
    assert undecoded_bytes(reply.rows) == len(b"".join(rows))
    assert [one["_id"] for one in reply.documents()] == list(range(len(rows)))


def test_documents_behind_one_another_are_told_apart() -> None:
    one, two = bson.encode(USUAL), bson.encode({})
    assert list(split(one + two)) == [one, two]
