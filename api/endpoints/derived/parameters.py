"""OpenAPI of what kinds have in common: the values that name a group, and the names of models."""

from typing import Any, Final

from neverstale.api.endpoints import openapi
from neverstale.api.web.query import kind_of
from neverstale.api.web.typed_values import NULL, TYPES
from neverstale.catalog import Resource

TYPED: Final[dict[str, tuple[dict[str, Any], Any]]] = {
    "string": ({"type": "string"}, "text"),
    "int": ({"type": "integer", "format": "int64"}, 42),
    "long": ({"type": "integer", "format": "int64"}, 42),
    "double": ({"type": "number"}, 1.5),
    "decimal": ({"type": "string", "pattern": r"^[-+0-9.eE]+$"}, "10.50"),
    "bool": ({"type": "boolean"}, True),
    "date": ({"type": "string", "format": "date-time"}, "2013-02-08T14:05:00.000Z"),
    "objectid": ({"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}, "5f0d1e2a3b4c5d6e7f809192"),
    "uuid": ({"type": "string", "format": "uuid"}, "12345678-1234-5678-1234-567812345678"),
    "binary": ({"type": "string", "contentEncoding": "base64"}, "aGVsbG8="),
}
"""Type of a value -> JSON schema, and an example."""


def group_parameters(resource: Resource, by: tuple[str, ...], *, required: bool) -> list[dict[str, Any]]:
    """One for each field whose value names a group."""
    described = []
    for path in by:
        typed, example = TYPED[kind_of(path, resource)]
        text = (
            f"The value of {path}. `{path}:{NULL}` is the group where it is missing or null; "
            f"`{path}:int=…` names the type (one of {', '.join(TYPES)})."
        )
        described.append(parameter(path, text, typed) | {"required": required, "example": example})
    return described


def parameter(name: str, description: str, typed: dict[str, Any]) -> dict[str, Any]:
    """A parameter of the query that may be left out. `typed`: its JSON schema."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": typed}


def model_name_of(resource: Resource, name: str, part: str) -> str:
    """Of a model of what is declared under this name: `FlightsByCarrierPage`."""
    return (
        openapi.model_name(resource) + "".join(word.capitalize() for word in name.replace("-", "_").split("_")) + part
    )
