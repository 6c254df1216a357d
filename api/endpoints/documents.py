"""`/v1/{resource}/{key}` and `/v1/{resource}?keys=`: from an ASGI request to the reader and back."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson
from bson.objectid import ObjectId
from starlette.types import Receive, Scope, Send

from api.reads.answer import Answer, Wish
from api.reads.reader import Reader
from api.reads.source import DocumentSource
from api.state import state_of
from api.web.demands import wish_of
from api.web.paths import key_of, keys_of, no_parameters
from api.web.pieces import length_of
from api.web.preconditions import conditions_of
from api.web.problems import answer_too_large, unknown_key
from api.web.responses import absent, facts_of, facts_of_many, found_or_unchanged
from api.web.unread import Holding, hold_for
from neverstale.catalog import Resource
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import TooLarge
from neverstale.redis.entries import etag_of
from neverstale.role import telemetry

WAVE_BYTES: Final = 8 << 20
"""About so many bytes of documents for one caller are read at once."""


class DocumentEndpoints:
    """The ASGI endpoints of one resource. The reader is the one that the app's lifespan opened."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._unknown_key = unknown_key(resource.name).body
        self._seconds = telemetry.READ_SECONDS.labels(resource.name)

    def _source(self, scope: Scope) -> DocumentSource:
        return state_of(scope).sources.documents[self._resource.name]

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}/{key}`."""
        started = time.perf_counter()
        no_parameters(scope["query_string"])
        key = key_of(scope["path_params"]["key"], self._resource)
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        reader, source = state_of(scope).reader, self._source(scope)
        answer = await reader.get(source, key, wish)
        facts = facts_of(answer, reader.bound(answer))
        if answer.body is None:
            response = absent(facts, self._unknown_key)
        else:
            source.count_read(source.locate(key)[0])
            response = found_or_unchanged(scope, conditions, facts, answer.etag, (answer.body,))
        self._seconds.observe(time.perf_counter() - started)
        await response(scope, receive, send)

    async def many(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}?keys=a,b,c`."""
        started = time.perf_counter()
        keys = keys_of(scope["query_string"], self._resource)
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        reader, source = state_of(scope).reader, self._source(scope)
        with hold_for(scope.get("state", {})) as holding:
            answers = await self._answers(reader, source, keys, wish, holding, state_of(scope).clients.answer_bytes)
            for key, answer in answers.items():
                if answer.body is not None:
                    source.count_read(source.locate(key)[0])
            every = list(answers.values())
            facts = facts_of_many(every, [reader.bound(answer) for answer in every])
            parts = _items([(key, answers[key]) for key in keys])
            response = found_or_unchanged(scope, conditions, facts, _etag(keys, answers), parts)
            self._seconds.observe(time.perf_counter() - started)
            await response(scope, receive, send)

    async def _answers(
        self,
        reader: Reader,
        source: DocumentSource,
        keys: Sequence[KeyValue],
        wish: Wish,
        holding: Holding,
        limit: int,
    ) -> dict[KeyValue, Answer]:
        """Returns the answer for each key. Large documents are read few at a time, so that few of them are held."""
        wanted = list(dict.fromkeys(keys))
        answers: dict[KeyValue, Answer] = {}
        weight, size = reader.weight(source), 0
        while len(answers) < len(wanted):
            wave = wanted[len(answers) : len(answers) + weight.room(WAVE_BYTES)]
            try:
                found = await reader.get_many(source, wave, wish)
            except TooLarge:
                if len(wave) == 1 or weight.room(WAVE_BYTES) >= len(wave):
                    raise
                continue  # in smaller waves, now that it is known how large they are
            bodies = [answer.body for answer in found if answer.body is not None]
            size += length_of(bodies)
            if size > limit:
                raise answer_too_large("keys", limit, "ask for fewer keys at once")
            holding.add(bodies)
            answers.update(zip(wave, found, strict=True))
        return answers


def _items(pairs: Iterable[tuple[KeyValue, Answer]]) -> list[bytes]:
    parts = [b'{"items":[']
    for key, answer in pairs:
        parts += (b'{"key":%b,"value":' % orjson.dumps(key, default=_text), answer.body or b"null", b"},")
    parts[-1] = b"}]}"
    return parts


def _etag(keys: Iterable[KeyValue], answers: Mapping[KeyValue, Answer]) -> bytes:
    """Equal if, and only if, the items are. A body's own ETag stands for it: hashing all would take long."""
    etags = {key: b"-" if answer.body is None else answer.etag for key, answer in answers.items()}
    return etag_of(b"\n".join(b"%b %b" % (repr(key).encode(), etags[key]) for key in keys))


def _text(key: KeyValue) -> str:
    assert isinstance(key, ObjectId)  # what orjson does not know; it writes UUIDs as we do
    return str(key)
