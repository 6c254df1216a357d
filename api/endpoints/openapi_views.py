"""OpenAPI of what an answer shows of documents: `expand` and `fields` as parameters, and what they make of models."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from neverstale.api.endpoints.openapi import model_name
from neverstale.api.linked.linker import MOST_DOCUMENTS
from neverstale.api.linked.view import MOST_LEVELS, MOST_PATHS, names_of
from neverstale.catalog import Resource
from neverstale.catalog.references import INSIDE, path_of

_MOST_NAMED: Final = 100
"""Of more references, only their spelling is described."""
_LISTED: Final[dict[str, Any]] = {"in": "query", "required": False, "style": "form", "explode": False}


def view_parameters(resource: Resource, resources: Mapping[str, Resource]) -> list[dict[str, Any]]:
    """The parameters of whatever shows documents of a resource. `resources`: all of the catalog."""
    return [*_expand(resource, resources), _fields(resource)]


def with_references(openapi: dict[str, Any], resources: Mapping[str, Resource]) -> dict[str, Any]:
    """Says of fields that refer to documents that these may stand in their places."""
    schemas = openapi["components"]["schemas"]
    for resource in resources.values():
        properties = schemas[model_name(resource)].get("properties", {})
        for name, reference in resource.refs.items():
            choices = properties.get(".".join(path_of(name, reference)), {}).get("anyOf")
            if choices is not None:
                choices.append({"$ref": f"#/components/schemas/{model_name(resources[reference.to])}"})
    return openapi


def _expand(resource: Resource, resources: Mapping[str, Resource]) -> list[dict[str, Any]]:
    names = list(islice(names_of(resource, resources), _MOST_NAMED + 1))
    if not names:
        return []
    items: dict[str, Any] = {"type": "string"}
    if len(names) <= _MOST_NAMED:
        items["enum"] = names
    else:
        first = "|".join(map(re.escape, resource.refs))
        items["pattern"] = rf"^({first})(\.[A-Za-z_][A-Za-z0-9_-]*){{0,{MOST_LEVELS - 1}}}$"
    text = (
        f"References that are replaced by the documents that they name, up to {MOST_LEVELS} levels; null where there "
        f"is none. At most {MOST_DOCUMENTS} documents an answer."
    )
    return [_listed("expand", text, items, names[0])]


def _fields(resource: Resource) -> dict[str, Any]:
    text = (
        "Only these fields; `a.b` is a field of a field, or of a document that `expand` shows. `_id` is always there."
    )
    if resource.fields is None:
        items = {"type": "string", "pattern": r"^[^.,%&#+]+$"}
        return _listed("fields", text, items, "_id")
    referring = {path_of(name, reference)[0] for name, reference in resource.refs.items()}
    deep = [name for name, kind in resource.fields.items() if kind in INSIDE or name in referring]
    plain = ["_id", *(name for name in resource.fields if name not in deep)]
    pattern = f"^({'|'.join(map(re.escape, plain))})$"
    if deep:
        pattern += rf"|^({'|'.join(map(re.escape, deep))})(\.[A-Za-z0-9_]+)*$"
    return _listed("fields", text, {"type": "string", "pattern": pattern}, plain[-1])


def _listed(name: str, description: str, items: dict[str, Any], example: str) -> dict[str, Any]:
    schema = {"type": "array", "items": items, "minItems": 1, "maxItems": MOST_PATHS}
    return {"name": name, "description": description, "schema": schema, "example": [example], **_LISTED}
