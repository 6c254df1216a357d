"""`QUERY` and `POST`: many keys in a body, of one resource at `/v1/{resource}` or of several at `/v1/-/documents`.

`QUERY` (draft-ietf-httpbis-safe-method-w-body) is a `GET` with a body. `POST` asks for the same where something
between here and the caller does not know `QUERY`.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, create_model
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.callers.middleware import visit_of
from neverstale.api.endpoints import openapi
from neverstale.api.endpoints.documents import etag_of_items, items, seen
from neverstale.api.endpoints.openapi_views import view_parameters
from neverstale.api.linked.linker import Linker
from neverstale.api.linked.many import Each, Many
from neverstale.api.linked.parameters import require
from neverstale.api.linked.reading import reading
from neverstale.api.linked.view import Views
from neverstale.api.linked.wanted import KEYS, MOST_KEYS, WantedDocuments, wanted_of, wanted_of_several
from neverstale.api.reads.answer import Answer, joined
from neverstale.api.state import state_of
from neverstale.api.web.bodies import ClientGone, json_body
from neverstale.api.web.demands import wish_of
from neverstale.api.web.paths import no_parameters
from neverstale.api.web.preconditions import Conditions, conditions_of
from neverstale.api.web.problems import precondition_failed
from neverstale.api.web.responses import facts_of, found_or_unchanged
from neverstale.api.web.unread import hold_for
from neverstale.catalog import Resource
from neverstale.errors import Refused
from neverstale.keys import KeyValue
from neverstale.redis.entries import etag_of
from neverstale.role import telemetry

METHODS: Final = ("POST", "QUERY")

_Found = Mapping[str, Mapping[KeyValue, Each]]
"""By resource."""


class QueryEndpoint:
    """The ASGI endpoint of one resource, or of several (`several`)."""

    def __init__(self, views: Mapping[str, Views], *, several: bool) -> None:
        self._views = views
        self._several = several
        self._seconds = {name: telemetry.READ_SECONDS.labels(name) for name in views}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        no_parameters(scope["query_string"])
        wish, conditions = wish_of(scope["headers"]), conditions_of(scope["headers"])
        try:
            wanted = self._wanted(scope, await json_body(scope, receive))
        except ClientGone:
            return
        state = state_of(scope)

        async def read(linker: Linker, many: Many) -> _Found:
            reads = [many.read(state.sources.documents[name], one.keys) for name, one in wanted.items()]
            found: dict[str, Mapping[KeyValue, Each]] = dict(zip(wanted, await asyncio.gather(*reads), strict=True))
            for name, each in found.items():
                found[name] = seen(visit_of(scope).owner(wanted[name].view.resource), each)
                linker.know(name, found[name])
            return {name: await linker.documents(wanted[name].view, each) for name, each in found.items()}

        with hold_for(scope.get("state", {})) as holding:
            found = await reading(state, wish, holding, KEYS, read)
            together = _together(found.values())
            facts = facts_of(together, state.reader.bound(together))
            etag, parts = self._content(wanted, found)
            if scope["method"] == "POST":
                conditions = _of_post(conditions, etag)
            response = found_or_unchanged(scope, conditions, facts, etag, parts)
            if not wish.audit:
                for name in wanted:
                    self._seconds[name].observe(time.perf_counter() - started)
            await response(scope, receive, send)

    def _wanted(self, scope: Scope, body: Any) -> dict[str, WantedDocuments]:
        """What the body asks for; a `Problem` if that makes no sense, or the caller may not have it."""
        if self._several:
            wanted = wanted_of_several(body, self._views)
            for name in wanted:
                visit_of(scope).decide(Reads(name))
        else:
            ((name, views),) = self._views.items()
            wanted = {name: wanted_of(body, views)}
        for one in wanted.values():
            require(scope, one.view)
        return wanted

    def _content(self, wanted: Mapping[str, WantedDocuments], found: _Found) -> tuple[bytes, list[bytes]]:
        """ETag and body."""
        etags: list[bytes] = []
        parts: list[bytes] = []
        for name, one in wanted.items():
            etags.append(etag_of_items(one.keys, found[name]))
            if self._several:
                parts.append(b'%b"%b":' % (b"," if parts else b"{", name.encode()))
            parts += items([(key, found[name][key]) for key in one.keys])
        if not self._several:
            return etags[0], parts
        named = [b"%b %b" % (name.encode(), etag) for name, etag in zip(wanted, etags, strict=True)]
        return etag_of(b"\n".join(named)), [*parts, b"}"]


def _together(found: Iterable[Mapping[KeyValue, Each]]) -> Answer:
    """What is known of all; raises what MongoDB refuses if there is nothing else."""
    every = [each for some in found for each in some.values()]
    answers = [each for each in every if isinstance(each, Answer)]
    if not answers:
        raise next(each for each in every if isinstance(each, Refused))
    return joined(answers)


def _of_post(conditions: Conditions, etag: bytes) -> Conditions:
    """Only what is asked for with a safe method can be answered with 304 (RFC 9110, section 13.1.2)."""
    if conditions.none_match is not None and conditions.none_match.holds(etag):
        raise precondition_failed()
    return replace(conditions, none_match=None)


# --- OpenAPI


def several_model(models: Mapping[str, type[BaseModel]]) -> type[BaseModel]:
    """The answer to keys of several resources. `models`: of the items of each."""
    members: dict[str, Any] = {
        name.replace("-", "_") + "_": (model | None, openapi.aliased(name)) for name, model in models.items()
    }
    return create_model("SeveralResources", __doc__="The items of each resource that was asked for.", **members)


def body_of(resource: Resource, resources: Mapping[str, Resource]) -> dict[str, Any]:
    """The request's body, as an operation describes it. `resources`: all of the catalog."""
    return _required(_schema(resource, resources), {"keys": [openapi.key_type(resource)[1]]})


def body_of_several(resources: Mapping[str, Resource]) -> dict[str, Any]:
    named = list(resources.values())
    schema = {
        "type": "object",
        "properties": {one.name: _schema(one, resources) for one in named},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return _required(schema, {named[0].name: {"keys": [openapi.key_type(named[0])[1]]}})


def _schema(resource: Resource, resources: Mapping[str, Resource]) -> dict[str, Any]:
    views = {one["name"]: one["schema"] for one in view_parameters(resource, resources)}
    keys = {"type": "array", "items": openapi.key_schema(resource), "minItems": 1, "maxItems": MOST_KEYS}
    text = f"Up to {MOST_KEYS} of all resources together, as the key's type is; or as Extended JSON spells it."
    return {
        "type": "object",
        "properties": {
            "keys": keys | {"description": text},
            **{name: schema | {"description": f"As the parameter `{name}`."} for name, schema in views.items()},
        },
        "required": ["keys"],
        "additionalProperties": False,
    }


def _required(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
