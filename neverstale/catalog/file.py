"""The catalog file as a whole; every problem is named with its file, its path and the remedy."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails

from neverstale.catalog.declarations import DECLARED
from neverstale.catalog.references import Reference, path_of, wrong_field
from neverstale.catalog.resource import NO_CHANGE_STREAMS, Resource, Warm
from neverstale.catalog.watchers import GroupDeclaration, check_groups, grouped
from neverstale.errors import Misconfigured
from neverstale.misconfiguration import Location, did_you_mean, read_toml, sentence, together, wrong


class Catalog(BaseModel):
    """All declared resources of one database."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: str
    resources: dict[str, Resource]
    """By name."""
    watchers: dict[str, GroupDeclaration] = Field(default_factory=dict)
    """Watcher groups besides the default group, by name."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check a catalog file; `Misconfigured` lists every problem."""
        tables = read_toml(path, "catalog file", "give its path with --catalog or NEVERSTALE_CATALOG")
        problems = list(_named_twice(path, tables))
        try:
            catalog = cls.model_validate(tables)
        except ValidationError as error:
            raise together(problems + [_problem(path, detail) for detail in error.errors()]) from None
        if problems:
            raise together(problems)
        return catalog

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections to watch, sorted, each once."""
        return tuple(sorted({resource.collection for resource in self.resources.values()}))

    def of_collection(self, collection: str) -> tuple[Resource, ...]:
        """The resources that are served from a collection."""
        return tuple(resource for resource in self.resources.values() if resource.collection == collection)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Watcher group -> its collections; the default group first, unless it has none."""
        return dict(grouped(self.watchers, self.collections))

    def of_group(self, group: str) -> Self:
        """The same, with the resources of one watcher group alone."""
        collections = self.groups[group]
        mine = {name: resource for name, resource in self.resources.items() if resource.collection in collections}
        declared = {name: one for name, one in self.watchers.items() if name == group}
        return self.model_copy(update={"resources": mine, "watchers": declared})

    @model_validator(mode="after")
    def _resources_are_of_the_database(self) -> Self:
        for resource in self.resources.values():
            resource._database = self.database
        return self

    @model_validator(mode="after")
    def _collections_are_in_one_group(self) -> Self:
        check_groups(self.watchers, self.collections)
        for group, collections in self.groups.items():
            for resource in self.resources.values():
                if resource.collection in collections:
                    resource._watcher_group = group
        return self

    @field_validator("database")
    @classmethod
    def _database_can_be_watched(cls, database: str) -> str:
        # https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions, the stricter (Windows) list.
        if not database or len(database.encode()) > 63 or set(database) & set('/\\. "$*<>:|?\0'):
            raise wrong(
                f"{database!r} is not a database name",
                'use 1 to 63 bytes without space or any of / \\ . " $ * < > : | ?',
            )
        if database in NO_CHANGE_STREAMS:
            raise wrong(f"MongoDB opens no change stream on {database}", "name a database of your own")
        return database

    @field_validator("resources", mode="before")
    @classmethod
    def _name_resources(cls, tables: Any) -> Any:
        if not isinstance(tables, dict):
            return tables
        if not tables:
            raise wrong("declares no resource", "add a table, e.g. [resources.flights]")
        return {name: {**table, "name": name} if isinstance(table, dict) else table for name, table in tables.items()}

    @field_validator("resources")
    @classmethod
    def _references_lead_somewhere(cls, resources: dict[str, Resource]) -> dict[str, Resource]:
        problems = [
            InitErrorDetails(
                type=wrong(problem, remedy), loc=(resource.name, "refs", name), input=resource.refs[name]
            )
            for resource in resources.values()
            for name, problem, remedy in _lost_references(resource, resources)
        ]
        if problems:
            raise ValidationError.from_exception_data("resources", problems)
        return resources


def _lost_references(resource: Resource, resources: Mapping[str, Resource]) -> Iterator[tuple[str, str, str]]:
    """The names of references that cannot be followed, what is wrong, and the remedy."""
    for name, reference in resource.refs.items():
        target = resources.get(reference.to)
        if target is None:
            yield name, f"there is no resource {reference.to!r}", did_you_mean(reference.to, resources)
        elif found := wrong_field(path_of(name, reference), resource.fields, target.key_type):
            yield name, *found


def _named_twice(path: Path, tables: dict[str, Any]) -> Iterator[Misconfigured]:
    resources = tables.get("resources")
    for name, table in resources.items() if isinstance(resources, dict) else ():
        if isinstance(table, dict) and "name" in table:
            where = f"{path}: {_dotted(('resources', name))}.name"
            yield Misconfigured(where, "a resource is named by its table", "remove it")


def _problem(path: Path, error: ErrorDetails) -> Misconfigured:
    location = error["loc"]
    culprit = str(error.get("ctx", {}).get("field", ""))
    where = f"{path}: {_dotted(location)}{'.' if culprit else ''}{culprit}"
    problem, remedy = sentence(error, _known)
    if error["type"] == "missing":
        remedy = f"add it, e.g. {_EXAMPLES[str(location[-1])]}"
    return Misconfigured(where, problem, remedy)


_EXAMPLES = {
    "database": 'database = "shop"',
    "resources": "[resources.flights]",
    "key_type": 'key_type = "string"',
    "score": 'score = "dep_delay"',
    "field": 'field = "dep_delay"',
    "to": 'to = "airlines"',
    "collections": 'collections = ["orders"]',
}


def _known(location: Location) -> list[str]:
    match location:
        case [_]:
            return list(Catalog.model_fields)
        case ["resources", _, str() as kind, _, str() as field, _, _] if kind in DECLARED:
            return _fields_inside(DECLARED[kind].model_fields[field])
        case ["watchers", _, _]:
            return list(GroupDeclaration.model_fields)
        case ["resources", _, "refs", _, _]:
            return list(Reference.model_fields)
        case ["resources", _, "warm", _]:
            return [field.alias or name for name, field in Warm.model_fields.items()]
        case ["resources", _, str() as kind, _, _] if kind in DECLARED:
            return list(DECLARED[kind].model_fields)
    return [name for name in Resource.model_fields if name != "name"]


def _fields_inside(field: FieldInfo) -> list[str]:
    """Of a table of tables, such as the sums of a counter."""
    return [name for inner in get_args(field.annotation) for name in getattr(inner, "model_fields", ())]


def _dotted(location: Location) -> str:
    """The path as TOML spells it; a resource's name is its table's, so the field `name` is the table."""
    parts = location[:-1] if len(location) == 3 and location[-1] == "name" else location
    return ".".join(_bare_or_quoted(str(part)) for part in parts if part != "[key]")


def _bare_or_quoted(part: str) -> str:
    bare = part.isascii() and part.replace("_", "").replace("-", "").isalnum()
    return part if bare else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
