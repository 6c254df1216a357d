"""`/v1/{resource}/-/most-read` and `/-/most-read/{key}`: what is read how often, by all processes together.

    {"items": [{"key": "2013-02-08:UA650:LGA", "reads": 1204.5, "rank": 1}, ...]}

A read counts half after a half-life (`api.reads_half_life_seconds`). Nothing of it is about a state of MongoDB, so
the answers carry no bound; they lack the reads that no process has told Redis of yet (`api.reads_flush_ms`).
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, Field, create_model
from starlette.types import Receive, Scope, Send

from neverstale.api.endpoints import openapi
from neverstale.api.state import state_of
from neverstale.api.web.paths import key_of, no_parameters
from neverstale.api.web.problems import unread
from neverstale.api.web.query import asked, whole_number
from neverstale.api.web.responses import ReadyResponse
from neverstale.catalog import Resource
from neverstale.keys import canonical, value_of
from neverstale.mongodb import bson_json
from neverstale.redis.most_read import MOST, Popularity, ReadCount

SHOWN: Final = 100
_HEADERS: Final = [(b"cache-control", b"no-store"), (b"content-type", b"application/json")]


class MostRead:
    """The ASGI endpoints of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    async def top(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}/-/most-read?limit=n`."""
        said = asked(scope["query_string"], self._resource, (), ("limit",), whole=True)
        limit = whole_number(said, "limit", SHOWN, 1, MOST)
        found = await _popularity(scope).most(self._resource.name, limit)
        # Thousands of rows would hold up the event loop for longer than anybody should wait.
        response = await asyncio.to_thread(_top, found) if len(found) > SHOWN else _top(found)
        await response(scope, receive, send)

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /v1/{resource}/-/most-read/{key}`."""
        no_parameters(scope["query_string"])
        key = key_of(scope["path_params"]["key"], self._resource)
        found = await _popularity(scope).of(self._resource.name, canonical(key))
        if found is None:
            raise unread(self._resource.name)
        await _json(_shown(found))(scope, receive, send)


def count_model(resource: Resource) -> type[BaseModel]:
    kind, example = openapi.key_type(resource)
    reads = "Reads, each of which counts half after a half-life."
    return create_model(
        f"{openapi.model_name(resource)}Reads",
        __doc__=f"How often a document of {resource.name} is read.",
        key=(kind, Field(examples=[example])),
        reads=(float, Field(description=reads, examples=[1204.5])),
        rank=(int, Field(description="The most read has 1.", examples=[1])),
    )


def top_model(resource: Resource, count: type[BaseModel]) -> type[BaseModel]:
    items: Any = list[count]  # type: ignore[valid-type]
    return create_model(f"{openapi.model_name(resource)}MostRead", items=(items, ...))


LIMIT: Final[dict[str, Any]] = {
    "name": "limit",
    "in": "query",
    "description": "How many.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST, "default": SHOWN},
}


def _popularity(scope: Scope) -> Popularity:
    return state_of(scope).popularity


def _shown(found: ReadCount) -> dict[str, Any]:
    return {"key": value_of(found.key), "reads": round(found.reads, 3), "rank": found.rank}


def _top(found: Iterable[ReadCount]) -> ReadyResponse:
    return _json({"items": list(map(_shown, found))})


def _json(content: dict[str, Any]) -> ReadyResponse:
    body = bson_json.encode(content)
    return ReadyResponse(200, [*_HEADERS, (b"content-length", b"%d" % len(body))], body)
