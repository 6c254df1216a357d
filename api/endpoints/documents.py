"""`/v1/{resource}/{key}` and `/v1/{resource}?keys=`: from an ASGI request to the reader and back."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import orjson
from bson.objectid import ObjectId
from starlette.types import Receive, Scope, Send

from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.reads.reader import Reader
from neverstale.api.reads.source import DocumentSource
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import key_of, keys_of, no_parameters
from neverstale.api.web.pieces import length_of
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.problems import answer_too_large, of_error, unknown_key
from neverstale.api.web.responses import absent, facts_of, facts_of_many, found_or_unchanged
from neverstale.api.web.unread import Holding, hold_for
from neverstale.catalog import Resource
from neverstale.errors import Refused
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import TooLarge
from neverstale.redis.entries import etag_of
from neverstale.role import telemetry

_Each: TypeAlias = Answer | Refused
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
            every = [answer for answer in answers.values() if isinstance(answer, Answer)]
            if not every:
                raise next(error for error in answers.values() if isinstance(error, Refused))
            for key, answer in answers.items():
                if isinstance(answer, Answer) and answer.body is not None:
                    source.count_read(source.locate(key)[0])
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
    ) -> dict[KeyValue, _Each]:
        """Returns the answer for each key. Large documents are read few at a time, so that few of them are held."""
        wanted = list(dict.fromkeys(keys))
        answers: dict[KeyValue, _Each] = {}
        weight, size = reader.weight(source), 0
        while len(answers) < len(wanted):
            wave = wanted[len(answers) : len(answers) + weight.room(WAVE_BYTES)]
            try:
                found = await reader.get_each(source, wave, wish)
            except TooLarge:
                if len(wave) == 1 or weight.room(WAVE_BYTES) >= len(wave):
                    raise
                continue  # in smaller waves, now that it is known how large they are
            bodies = [one.body for one in found if isinstance(one, Answer) and one.body is not None]
            size += length_of(bodies)
            if size > limit:
                raise answer_too_large("keys", limit, "ask for fewer keys at once")
            holding.add(bodies)
            answers.update(zip(wave, found, strict=True))
        return answers


def _items(pairs: Iterable[tuple[KeyValue, _Each]]) -> list[bytes]:
    parts = [b'{"items":[']
    for key, answer in pairs:
        if isinstance(answer, Refused):
            name, value = b"problem", of_error(answer).body
        else:
            name, value = b"value", answer.body or b"null"
        parts += (b'{"key":%b,"%b":' % (orjson.dumps(key, default=_text), name), value, b"},")
    parts[-1] = b"}]}"
    return parts


def _etag(keys: Iterable[KeyValue], answers: Mapping[KeyValue, _Each]) -> bytes:
    """Equal if, and only if, the items are. A body's own ETag stands for it: hashing all would take long."""
    etags = {key: _etag_of(answer) for key, answer in answers.items()}
    return etag_of(b"\n".join(b"%b %b" % (repr(key).encode(), etags[key]) for key in keys))


def _etag_of(answer: _Each) -> bytes:
    if isinstance(answer, Refused):
        return b"!" + etag_of(of_error(answer).body)
    return b"-" if answer.body is None else answer.etag


def _text(key: KeyValue) -> str:
    assert isinstance(key, ObjectId)  # what orjson does not know; it writes UUIDs as we do
    return str(key)
