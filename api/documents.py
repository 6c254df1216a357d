"""`/v1/{resource}/{key}` and `/v1/{resource}?keys=`: from an ASGI request to the reader and back."""

import time
from collections.abc import Sequence

import orjson
from bson.objectid import ObjectId
from starlette.types import Receive, Scope, Send

from api.answers import Answer
from api.compression import Compressed
from api.plain import coding_of
from api.preconditions import Conditions, conditions_of
from api.problems import precondition_failed, unknown_key
from api.reader import Reader
from api.responses import Facts, Raw, absent, facts_of, facts_of_many, found, not_modified
from api.tally import Tally
from api.targets import key_of, keys_of, no_parameters
from api.wishes import wish_of
from neverstale import telemetry
from neverstale.catalog import Resource
from neverstale.entries import etag_of
from neverstale.keys import KeyValue


class Documents:
    """The ASGI endpoints of one resource. The reader is the one that the app's lifespan opened."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._unknown_key = unknown_key(resource.name).body
        self._seconds = telemetry.READ_SECONDS.labels(resource.name)

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}/{key}`."""
        started = time.perf_counter()
        no_parameters(scope["query_string"])
        key = key_of(scope["path_params"]["key"], self._resource)
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        reader = _reader(scope)
        answer = await reader.get(self._resource, key, wish)
        facts = facts_of(answer, reader.bound(answer))
        if answer.body is None:
            response = absent(facts, self._unknown_key)
        else:
            _tally(scope).saw_document(self._resource, key)
            response = found_or_unchanged(scope, conditions, facts, answer.etag, answer.body)
        self._seconds.observe(time.perf_counter() - started)
        await response(scope, receive, send)

    async def many(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}?keys=a,b,c`."""
        started = time.perf_counter()
        keys = keys_of(scope["query_string"], self._resource)
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        reader = _reader(scope)
        answers = await reader.get_many(self._resource, keys, wish)
        for key, answer in zip(keys, answers, strict=True):
            if answer.body is not None:
                _tally(scope).saw_document(self._resource, key)
        body = _items(keys, answers)
        facts = facts_of_many(answers, [reader.bound(answer) for answer in answers])
        response = found_or_unchanged(scope, conditions, facts, etag_of(body), body)
        self._seconds.observe(time.perf_counter() - started)
        await response(scope, receive, send)


def _reader(scope: Scope) -> Reader:
    reader: Reader = scope["app"].state.reader
    return reader


def _tally(scope: Scope) -> Tally:
    tally: Tally = scope["app"].state.tally
    return tally


def found_or_unchanged(scope: Scope, conditions: Conditions, facts: Facts, etag: bytes, body: bytes) -> Raw:
    """The body, compressed if that is wanted, or that the caller has it; a `Problem` if it is not what it expects."""
    verdict = conditions.verdict(etag, facts.version)
    if verdict == 412:
        raise precondition_failed()
    compressed: Compressed = scope["app"].state.compressed
    packed = compressed.of(coding_of(scope["headers"]), etag, body)
    if verdict == 304:
        return not_modified(facts, etag, weak=packed is not None)
    return found(facts, etag, body, packed)


def _items(keys: Sequence[KeyValue], answers: Sequence[Answer]) -> bytes:
    items = b",".join(
        b'{"key":%b,"value":%b}' % (orjson.dumps(key, default=_text), answer.body or b"null")
        for key, answer in zip(keys, answers, strict=True)
    )
    return b'{"items":[%b]}' % items


def _text(key: KeyValue) -> str:
    assert isinstance(key, ObjectId)  # what orjson does not know; it writes UUIDs as we do
    return str(key)
