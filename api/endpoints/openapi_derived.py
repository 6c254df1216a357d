"""OpenAPI of lists, look-ups, counters and rankings: models, parameters and examples, from the catalog."""

from typing import Any, Final

from pydantic import BaseModel, Field, create_model

from neverstale.api.derived.counters import CounterSource
from neverstale.api.derived.rankings import RankingSource
from neverstale.api.endpoints import openapi
from neverstale.api.web.query import kind_of
from neverstale.api.web.typed_values import NULL, TYPES
from neverstale.catalog import Resource

_TYPED: Final[dict[str, tuple[dict[str, Any], Any]]] = {
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
_CURSOR: Final = "AQX3k0bN1QABGgAAAAQAEgAAAAIwAAIAAABrAAAAAA"


def page_model(resource: Resource, list_name: str, *, has_total: bool) -> type[BaseModel]:
    document: Any = openapi.document_model(resource)
    members: dict[str, Any] = {
        "items": (list[document], ...),
        "next": _cursor("The cursor of the next page; null: this is the last."),
        "prev": _cursor("The cursor of the page before; null: this is the first."),
    }
    if has_total:
        members["total"] = (int | None, Field(None, description="Documents of the group.", examples=[12]))
    return create_model(_model(resource, list_name, "Page"), __doc__=f"A page of {list_name}.", **members)


def list_parameters(resource: Resource, list_name: str, *, has_total: bool) -> list[dict[str, Any]]:
    declared = resource.lists[list_name]
    text = "Which page: `next` or `prev` of another one; 400 for anything else."
    cursor = _parameter("cursor", text, {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]+$"})
    size = {"type": "integer", "minimum": 1, "maximum": declared.page_size, "default": declared.page_size}
    described = [*_groups(resource, declared.by, required=True), cursor, _parameter("limit", "Items.", size)]
    first = declared.order[0][0]
    if first not in declared.by and first not in declared.where:
        typed = _TYPED[kind_of(first, resource)][0]
        described += [
            _parameter(f"{first}:{way}", f"Only documents whose {first} is {said} this; {_NAMED}", typed)
            for way, said in (("gte", "at or above"), ("gt", "above"), ("lte", "at or below"), ("lt", "below"))
        ]
    if has_total:
        described.append(_parameter("total", "Also how many documents the group has.", {"type": "boolean"}))
    return described


_NAMED: Final = "the type may be named before it, as in `day:int:gte`."


def _cursor(text: str) -> Any:
    return (str | None, Field(description=text, examples=[_CURSOR]))


NOT_UNIQUE: Final = openapi.problem_answer(409, "More than one document has this value.")


def value_parameter(resource: Resource, path: str) -> dict[str, Any]:
    typed, example = _TYPED[kind_of(path, resource)]
    if typed["type"] == "string":
        typed = {"minLength": 1} | typed
    text = f"The value of {path}, percent-encoded: a `/` inside it is `%2F`."
    described = {"name": "value", "in": "path", "required": True, "description": text}
    return described | {"schema": typed, "example": example}


def counter_model(counts: CounterSource) -> Any:
    sums = _figures(counts, "Sums", "The sum; null if JSON cannot say it.")
    averages = _figures(counts, "Averages", "The sum by the number of numbers; null without any.")
    figures: dict[str, Any] = {"count": (int, Field(examples=[12])), "sums": (sums, ...)}
    if counts.declared.sums:
        figures["averages"] = (averages, ...)
    total = create_model(_model(counts.resource, counts.counter, "Count"), __doc__="Of one group.", **figures)
    by: Any = dict[str, Any]
    text = "Where `by` does not tell the types of its values: the parameters that do. Null: one is too long for them."
    group = create_model(
        _model(counts.resource, counts.counter, "Group"),
        by=(by, Field(examples=[_by(counts)])),
        ask=(str | None, Field(None, description=text, examples=["price:decimal=10.50"])),
        **figures,
    )
    groups: Any = list[group]
    return create_model(
        _model(counts.resource, counts.counter, "Counted"),
        __doc__="One group has `count`, `sums` and `averages`; several are listed in `groups`, with their `total`.",
        count=(int | None, Field(None, description="Of one group, or of all together.", examples=[12])),
        sums=(sums | None, None),
        averages=(averages | None, None),
        groups=(groups | None, Field(None, description="The largest first.")),
        more=(bool | None, Field(None, description="There are more groups than `limit`.", examples=[False])),
        total=(total | None, Field(None, description="Of all groups, shown or not.")),
    )


def counter_parameters(counts: CounterSource) -> list[dict[str, Any]]:
    fields = list(counts.declared.by)
    most = counts.resource.max_groups
    described = [*_groups(counts.resource, counts.declared.by, required=not most)]
    if not most:
        return described
    if fields:
        text = "Fields that make the groups; the others are added up. Empty: one count of all."
        listed = {"type": "array", "items": {"type": "string", "enum": fields}, "uniqueItems": True}
        described.append(_parameter("group", text, listed) | {"style": "form", "explode": False})
    limit = {"type": "integer", "minimum": 1, "maximum": most, "default": most}
    return [*described, _parameter("limit", "Groups that are shown.", limit)]


def ranking_model(ranks: RankingSource) -> type[BaseModel]:
    item: Any = _ranked(ranks)
    return create_model(_model(ranks.resource, ranks.ranking, "Ranking"), items=(list[item], ...))


def ranking_parameters(ranks: RankingSource) -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": ranks.declared.size}
    described = _groups(ranks.resource, ranks.declared.by, required=True)
    return [*described, _parameter("limit", "How many, from the first.", limit)]


def rank_model(ranks: RankingSource) -> type[BaseModel]:
    item: Any = _ranked(ranks)
    text = "With `around`: neighbours and itself, in order."
    around: Any = list[item] | None
    name = _model(ranks.resource, ranks.ranking, "Rank")
    return create_model(name, __base__=item, around=(around, Field(None, description=text)))


def rank_parameters(ranks: RankingSource) -> list[dict[str, Any]]:
    around = {"type": "integer", "minimum": 0, "maximum": 100, "default": 0}
    described = _groups(ranks.resource, ranks.declared.by, required=True)
    beside = _parameter("around", "Neighbours on either side.", around)
    return [openapi.key_parameter(ranks.resource), *described, beside]


def _figures(counts: CounterSource, part: str, text: str) -> Any:
    named: dict[str, Any] = {
        f"sum_{i}": (float | None, Field(alias=name, description=text, examples=[340]))
        for i, name in enumerate(counts.declared.sums)
    }
    return create_model(_model(counts.resource, counts.counter, part), **named)


def _ranked(ranks: RankingSource) -> Any:
    kind, example = openapi.key_type(ranks.resource)
    return create_model(
        _model(ranks.resource, ranks.ranking, "Place"),
        key=(kind, Field(examples=[example])),
        score=(float, Field(description="A date counts its milliseconds since 1970.", examples=[340])),
        rank=(int, Field(description="From 1; equal scores rank by key.", examples=[1])),
    )


def _groups(resource: Resource, by: tuple[str, ...], *, required: bool) -> list[dict[str, Any]]:
    described = []
    for path in by:
        typed, example = _TYPED[kind_of(path, resource)]
        text = (
            f"The value of {path}. `{path}:{NULL}` is the group where it is missing or null; "
            f"`{path}:int=…` names the type (one of {', '.join(TYPES)})."
        )
        described.append(_parameter(path, text, typed) | {"required": required, "example": example})
    return described


def _parameter(name: str, description: str, typed: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": typed}


def _by(counts: CounterSource) -> dict[str, Any]:
    return {path: _TYPED[kind_of(path, counts.resource)][1] for path in counts.declared.by}


def _model(resource: Resource, name: str, part: str) -> str:
    return (
        openapi.model_name(resource) + "".join(word.capitalize() for word in name.replace("-", "_").split("_")) + part
    )
