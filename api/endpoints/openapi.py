"""OpenAPI, from the catalog: each resource has typed models and examples. Nothing here runs while requests do."""

import datetime
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.routing import BaseRoute

from neverstale.api.callers.middleware import DecidedRoute
from neverstale.api.web.paths import PREFIX
from neverstale.catalog import FieldType, Resource
from neverstale.keys import MAX_KEY_BYTES, KeyType

_STAMP: Final = "2013-02-08T14:05:00.000Z"

_FIELDS: Final[dict[FieldType, tuple[Any, Any]]] = {
    "string": (str, "text"),
    "int": (int, 42),
    "long": (int, 42),
    "double": (float, 1.5),
    "decimal": (str, "10.50"),
    "bool": (bool, True),
    "date": (datetime.datetime, _STAMP),
    "objectid": (str, "5f0d1e2a3b4c5d6e7f809192"),
    "uuid": (uuid.UUID, "12345678-1234-5678-1234-567812345678"),
    "binary": (str, "aGVsbG8="),
    "object": (dict[str, Any], {}),
    "array": (list[Any], []),
    "any": (Any, None),
}
_KEYS: Final[dict[KeyType, tuple[dict[str, Any], Any]]] = {
    "string": ({"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES}, "text"),
    "int": ({"type": "integer", "format": "int64"}, 42),
    "objectid": ({"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}, "5f0d1e2a3b4c5d6e7f809192"),
    "uuid": ({"type": "string", "format": "uuid"}, "12345678-1234-5678-1234-567812345678"),
}
_KEY_TYPES: Final[dict[KeyType, Any]] = {"string": str, "int": int, "objectid": str, "uuid": uuid.UUID}


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["urn:neverstale:unknown-key"])
    title: str = Field(examples=["Unknown key"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no document with this key."])
    parameter: str | None = Field(
        None, description="With 400: the query parameter or header that is wrong, or `key`."
    )


class Audited(BaseModel):
    """How many answers of one kind were compared with MongoDB, and what that proves."""

    checked: int = Field(examples=[512345])
    wrong: int = Field(description="That broke their own bound, or showed what never was.", examples=[0])
    nines: float = Field(description="Of answers that are right, at least, at 95 %.", examples=[5.2])
    permanent: int = Field(description="Of the wrong ones, those that stayed wrong.", examples=[0])
    worst_age_seconds: float = Field(description="Of the oldest change that an answer missed.", examples=[0.08])


class ResourceAudit(BaseModel):
    """What an auditor has found about a resource."""

    at_ms: int = Field(description="When it told so, milliseconds since 1970.", examples=[1764512345678])
    since_ms: int = Field(description="Since when it counts.", examples=[1764508745678])
    kinds: dict[str, Audited] = Field(description="By kind: documents, pages, counters, rankings.")


class ResourceFreshness(BaseModel):
    """How fresh the cache of one resource is."""

    watermark: str | None = Field(
        description="The cache misses no change up to this version.", examples=["5117a1b300000001"]
    )
    bound: float | None = Field(description="Seconds: no change committed longer ago is missing.", examples=[0.105])
    why: str | None = Field(description="Why there is no bound.", examples=[None])
    watcher_group: str = Field("default", description="Whose marks the bound rests on.", examples=["default"])
    refused: dict[str, str] = Field(
        {}, description="What MongoDB refuses to read of it, by source, and what helps; missing: nothing."
    )
    audit: ResourceAudit | None = Field(
        None, description="What an auditor has found in the last hour; missing: none runs."
    )


class FreshnessModel(BaseModel):
    resources: dict[str, ResourceFreshness]
    notes: list[str] = Field(description="What no bound covers at present, and what to do about it.", examples=[[]])


def document_model(resource: Resource) -> type[BaseModel]:
    """What a document of the resource looks like. Fields may be missing or null: MongoDB enforces no types."""
    fields: dict[str, Any] = {
        "key": (
            _KEY_TYPES[resource.key_type],
            Field(alias="_id", json_schema_extra=_KEYS[resource.key_type][0], examples=[_KEYS[resource.key_type][1]]),
        )
    }
    for number, (name, kind) in enumerate((resource.fields or {}).items()):
        python_type, example = _FIELDS[kind]
        fields[f"field_{number}"] = (python_type | None, Field(None, alias=name, examples=[example]))
    return create_model(
        model_name(resource),
        __config__=ConfigDict(extra="forbid" if resource.fields else "allow"),
        __doc__=f"A document of {resource.name}.",
        **fields,
    )


def items_model(resource: Resource, document: type[BaseModel]) -> type[BaseModel]:
    """The answer to a list of keys."""
    optional: Any = document | None
    item: Any = create_model(
        f"{model_name(resource)}Item",
        key=(_KEY_TYPES[resource.key_type], Field(examples=[_KEYS[resource.key_type][1]])),
        value=(optional, Field(None, description="null: there is no document with this key.")),
        problem=(
            ProblemDetails | None,
            Field(None, description="Instead of `value`: MongoDB refuses to read this document alone."),
        ),
    )
    return create_model(f"{model_name(resource)}Items", items=(list[item], ...))


def key_parameter(resource: Resource) -> dict[str, Any]:
    schema, example = _KEYS[resource.key_type]
    return {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "The document's `_id`, percent-encoded: a `/` inside it is `%2F`.",
        "schema": schema,
        "example": example,
    }


def keys_parameter(resource: Resource) -> dict[str, Any]:
    schema, example = _KEYS[resource.key_type]
    return {
        "name": "keys",
        "in": "query",
        "required": True,
        "description": "Up to 200 keys. A comma between keys is a plain comma, inside a key it is `%2C`.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "items": schema, "minItems": 1, "maxItems": 200},
        "example": [example],
    }


DEMANDS: Final[list[dict[str, Any]]] = [
    {
        "name": "Cache-Control",
        "in": "header",
        "description": "`max-age=s`, `no-cache`, `only-if-cached`, `stale-if-error=s` (seconds).",
        "schema": {"type": "string"},
        "example": "max-age=5",
    },
    {
        "name": "Neverstale-Min-Version",
        "in": "header",
        "description": "Miss no change up to this version: an answer's, or the `operationTime` of a write. "
        "400 for a version that the database has not reached.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    },
    {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag that the caller holds; an unchanged document is answered with 304.",
        "schema": {"type": "string"},
    },
    {
        "name": "If-Match",
        "in": "header",
        "description": "The ETag that the caller expects; 412 for another one.",
        "schema": {"type": "string"},
    },
]

_FACTS: Final[dict[str, Any]] = {
    "Neverstale-Version": {
        "description": "The version at which the document was read.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    },
    "Neverstale-Bound": {
        "description": "Seconds: no change committed longer ago is missing; or `unknown`.",
        "schema": {"type": "string", "pattern": r"^([0-9]+\.[0-9]{3}|unknown)$"},
    },
    "Age": {
        "description": "The bound in whole seconds, rounded up; absent if unknown.",
        "schema": {"type": "integer"},
    },
    "Cache-Status": {"description": "How it was answered (RFC 9211).", "schema": {"type": "string"}},
}
_ETAG: Final = {"ETag": {"description": "Stable for equal content.", "schema": {"type": "string"}}}
_RETRY: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def answers(*, absent: bool) -> dict[int | str, dict[str, Any]]:
    """The responses of a read, besides the model of its 200."""
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": "Found.", "headers": _FACTS | _ETAG},
        304: {"description": "Unchanged since the caller's ETag.", "headers": _FACTS | _ETAG},
        400: problem("A parameter is malformed; `parameter` names it."),
        403: problem("The cache does not meet the request's demands, and `api.demands` is none."),
        412: problem("What is there is not what `If-Match` or `If-Unmodified-Since` expects."),
        413: problem("The documents of the answer are too large together."),
        503: problem("MongoDB does not answer, or too many reads wait for it.", _RETRY),
        504: problem("`only-if-cached`, and the cache holds no answer that will do."),
    }
    if absent:
        found[404] = problem("There is no document with this key.", _FACTS)
    return found


def plain_answers(*, absent: bool) -> dict[int | str, dict[str, Any]]:
    """The responses of what is not about a state of MongoDB, besides the model of its 200."""
    found: dict[int | str, dict[str, Any]] = {
        400: problem("A parameter is malformed; `parameter` names it."),
        503: problem("Redis does not answer.", _RETRY),
    }
    if absent:
        found[404] = problem("There is none with this key.")
    return found


def streamed_answers() -> dict[int | str, dict[str, Any]]:
    """The responses of an export, besides the model of a line of its 200."""
    return {
        200: {"description": "Every document, in the order of `_id`, as a line of JSON."},
        400: problem("A parameter is malformed; `parameter` names it."),
        503: problem("MongoDB does not answer, or too many exports are under way.", _RETRY),
    }


def problem(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    """A response with problem details."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {"description": description, "content": content, "headers": headers or {}}


BODY_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    408: problem("The body took too long to arrive."),
    413: problem("The body, or all documents of the answer together, are too large."),
    415: problem("The body has another type than `application/json`."),
}


def problem_answer(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    """One more response of a read."""
    return {status: problem(description)}


SWITCHED_OFF: Final[dict[int | str, dict[str, Any]]] = {403: problem("The catalog wants values of all fields.")}


def with_problem_details(openapi: dict[str, Any]) -> dict[str, Any]:
    """Adds what the routes only refer to."""
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    for operations in openapi["paths"].values():
        for operation in operations.values():
            operation["responses"]["431"] = problem("The request line and the headers are too large together.")
    return openapi


def key_schema(resource: Resource) -> dict[str, Any]:
    """The schema of its keys."""
    return _KEYS[resource.key_type][0]


def aliased(name: str) -> Any:
    """An optional member of a model that is called so in JSON."""
    return Field(None, alias=name)


def key_type(resource: Resource) -> tuple[Any, Any]:
    """The Python type of its keys, and an example."""
    return _KEY_TYPES[resource.key_type], _KEYS[resource.key_type][1]


def with_limits(openapi: dict[str, Any]) -> dict[str, Any]:
    """Adds what limits answer to everything below `/v1/`."""
    for path, operations in openapi["paths"].items():
        if path.startswith(PREFIX):
            for operation in operations.values():
                operation["responses"]["429"] = problem("The caller makes more requests than it may.", _RETRY)
    return openapi


def model_name(resource: Resource) -> str:
    """How the names of its models begin."""
    return "".join(part.capitalize() for part in resource.name.replace("-", "_").split("_"))


# --- callers

BEARER: Final = "bearer"
_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key that `neverstale keys add` has made, or a token of the identity provider.",
}
_CHALLENGE: Final = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}


def with_callers(
    openapi: dict[str, Any], routes: Iterable[BaseRoute], resources: Mapping[str, Resource]
) -> dict[str, Any]:
    """Adds the scheme, and to each operation the scope that it needs."""
    openapi["components"].setdefault("securitySchemes", {})[BEARER] = _SCHEME
    for route in routes:
        if isinstance(route, DecidedRoute) and route.path in openapi["paths"]:
            for method in route.methods or ():
                operation = openapi["paths"][route.path].get(method.lower())
                if operation is not None:
                    _secure(operation, route, resources)
    return openapi


def _secure(operation: dict[str, Any], route: DecidedRoute, resources: Mapping[str, Resource]) -> None:
    reads = route.reads
    operation["responses"]["401"] = problem(
        "Nobody believes what the request shows, or it shows nothing.", _CHALLENGE
    )
    if reads.resource is None or resources[reads.resource].public:
        operation["security"] = [{}, {BEARER: []}]
        return
    scope = f"read:{reads.resource}:{reads.kind}"
    operation["security"] = [{BEARER: [scope]}]
    said = operation["responses"].get("403", {}).get("description", "")
    refused = f"The caller lacks a scope, such as {scope}; `scope` names it."
    operation["responses"]["403"] = problem(f"{refused} {said}".rstrip(), _CHALLENGE)
