"""`/v1/{resource}/{key}` and `/v1/{resource}?keys=`: from an ASGI request to the reader and back."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

import orjson
from bson.objectid import ObjectId
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.middleware import visit_of
from neverstale.api.callers.tenants import Owner
from neverstale.api.linked.linker import Linker
from neverstale.api.linked.many import Each, Many
from neverstale.api.linked.parameters import EXPAND, view_of
from neverstale.api.linked.reading import reading
from neverstale.api.linked.view import View, Views
from neverstale.api.live.endpoint import SubjectOf
from neverstale.api.live.subjects import DocumentSubject, LiveSubject
from neverstale.api.reads.answer import Answer, Wish, joined
from neverstale.api.reads.source import DocumentSource
from neverstale.api.state import state_of
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import key_of, keys_of, no_parameters
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.problems import of_error, unknown_key
from neverstale.api.web.responses import absent, facts_of, found_or_unchanged, shared_headers
from neverstale.api.web.unread import hold_for
from neverstale.catalog import Resource
from neverstale.errors import Refused
from neverstale.keys import KeyValue
from neverstale.redis.entries import etag_of
from neverstale.role import telemetry

KEYS: Final = "keys"


class DocumentEndpoints:
    """The ASGI endpoints of one resource. The reader is the one that the app's lifespan opened."""

    def __init__(self, resource: Resource, resources: Mapping[str, Resource]) -> None:
        """`resources`: all of the catalog."""
        self._resource = resource
        self._views = Views(resource, resources)
        self._unknown_key = unknown_key(resource.name).body
        self._seconds = telemetry.READ_SECONDS.labels(resource.name)

    def _source(self, scope: Scope) -> DocumentSource:
        return state_of(scope).sources.documents[self._resource.name]

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}/{key}`."""
        started = time.perf_counter()
        view, query = view_of(scope, self._views)
        no_parameters(query)
        key = key_of(scope["path_params"]["key"], self._resource)
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        reader, source = state_of(scope).reader, self._source(scope)
        owner = visit_of(scope).owner(self._resource)
        if view.is_whole:
            answer = await reader.get(source, key, wish)
            if owner is not None:
                answer = owner.seen(answer)
            if answer.body is not None and not wish.audit:
                source.count_read(source.locate(key)[0])
        else:
            answer = await self._viewed(scope, view, key, wish)
        facts = facts_of(answer, reader.bound(answer))
        if answer.body is None:
            response = absent(facts, self._unknown_key, shared_headers(scope, view.resources))
        else:
            response = found_or_unchanged(scope, conditions, facts, answer.etag, (answer.body,), view.resources)
        if not wish.audit:
            self._seconds.observe(time.perf_counter() - started)
        await response(scope, receive, send)

    async def _viewed(self, scope: Scope, view: View, key: KeyValue, wish: Wish) -> Answer:
        """The document with what it refers to, or with some of its fields."""
        source, owner = self._source(scope), visit_of(scope).owner(self._resource)

        async def read(linker: Linker, many: Many) -> Each:
            return (await linker.documents(view, seen(owner, await many.read(source, [key]))))[key]

        with hold_for(scope.get("state", {})) as holding:
            each = await reading(state_of(scope), wish, holding, EXPAND, read)
        if isinstance(each, Refused):
            raise each
        return each

    async def many(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}?keys=a,b,c`."""
        started = time.perf_counter()
        view, query = view_of(scope, self._views)
        keys = keys_of(query, self._resource)
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        reader, source = state_of(scope).reader, self._source(scope)
        owner = visit_of(scope).owner(self._resource)

        async def read(linker: Linker, many: Many) -> Mapping[KeyValue, Each]:
            return await linker.documents(view, seen(owner, await many.read(source, keys)))

        with hold_for(scope.get("state", {})) as holding:
            answers = await reading(state_of(scope), wish, holding, KEYS, read)
            every = [answer for answer in answers.values() if isinstance(answer, Answer)]
            if not every:
                raise next(error for error in answers.values() if isinstance(error, Refused))
            together = joined(every)
            facts = facts_of(together, reader.bound(together))
            parts = items([(key, answers[key]) for key in keys])
            response = found_or_unchanged(
                scope, conditions, facts, etag_of_items(keys, answers), parts, view.resources
            )
            if not wish.audit:
                self._seconds.observe(time.perf_counter() - started)
            await response(scope, receive, send)


def seen(owner: Owner | None, answers: Mapping[KeyValue, Each]) -> Mapping[KeyValue, Each]:
    """The answers as a tenant sees them: other tenants' documents are none."""
    if owner is None:
        return answers
    return {key: owner.seen(each) if isinstance(each, Answer) else each for key, each in answers.items()}


def items(pairs: Iterable[tuple[KeyValue, Each]]) -> list[bytes]:
    """The body of an answer for several keys, in parts."""
    parts = [b'{"items":[']
    for key, answer in pairs:
        if isinstance(answer, Refused):
            name, value = b"problem", of_error(answer).body
        else:
            name, value = b"value", answer.body or b"null"
        parts += (b'{"key":%b,"%b":' % (orjson.dumps(key, default=_text), name), value, b"},")
    parts[-1] = b"}]}"
    return parts


def etag_of_items(keys: Iterable[KeyValue], answers: Mapping[KeyValue, Each]) -> bytes:
    """Equal if, and only if, the items are. A body's own ETag stands for it: hashing all would take long."""
    etags = {key: _etag_of(answer) for key, answer in answers.items()}
    return etag_of(b"\n".join(b"%b %b" % (repr(key).encode(), etags[key]) for key in keys))


def _etag_of(answer: Each) -> bytes:
    if isinstance(answer, Refused):
        return b"!" + etag_of(of_error(answer).body)
    return b"-" if answer.body is None else answer.etag


def _text(key: KeyValue) -> str:
    assert isinstance(key, ObjectId)  # what orjson does not know; it writes UUIDs as we do
    return str(key)


def watched(resource: Resource, resources: Mapping[str, Resource]) -> SubjectOf:
    """What a stream of a document watches: the same as its `GET` answers."""
    absence, views = unknown_key(resource.name).body, Views(resource, resources)

    def subject(scope: Scope) -> LiveSubject:
        view, query = view_of(scope, views)
        no_parameters(query)
        key, state = key_of(scope["path_params"]["key"], resource), state_of(scope)
        return DocumentSubject(state, state.sources.documents[resource.name], key, view, absence)

    return subject
