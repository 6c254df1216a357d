"""Declarations: the lists, counters and rankings of a resource, as the catalog spells them.

```toml
[resources.flights.lists.departures]
by = ["origin", "day"]
where = { cancelled = false }
sort = ["sched_dep", "_id"]
page_size = 25
cached_pages = 4

[resources.flights.counters.by_status]
by = ["origin", "status"]
sums = { delay_minutes = { field = "dep_delay", scale = 0 } }

[resources.flights.rankings.most_delayed]
by = ["day"]
score = "dep_delay"
size = 100
```
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, Final, get_args

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from neverstale.catalog.tenants import told_apart
from neverstale.misconfiguration import wrong

FORMAT: Final = 2
"""Of facts and contributions. A generation of another format is one that we cannot keep."""
MAX_BY: Final = 4
MAX_SORT: Final = 8

Constant = bool | int | float | str


def _is_path(path: str) -> bool:
    parts = path.split(".")
    return all(part and part[0] != "$" and "\0" not in part and not part.isdigit() for part in parts)


def check_path(path: str) -> str:
    """Raises for what is no field and no path of fields."""
    if not _is_path(path):
        raise wrong(
            f"{path!r} is not a field or a path of fields",
            'name a field, or a field of a field such as "address.city"; positions in arrays cannot be named',
        )
    return path


def check_distinct(paths: Iterable[str]) -> None:
    """Raises if a path is there twice."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise wrong(f"names {path} twice", "name each field once")
        seen.add(path)


class Declaration(BaseModel):
    """What is derived from the documents of a group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shows_documents: ClassVar[bool] = False
    """Whether what is read of it depends on which fields of documents are shown."""

    by: Annotated[tuple[str, ...], Field(max_length=MAX_BY)] = ()
    """Fields that make a group; in the URL they are query parameters. A table says of each where its value comes
    from: `"query"`, or `"claim:NAME"`, the caller's credentials."""
    claims: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Field -> claim. It changes who may ask, and nothing that is derived: no digest covers it."""

    @model_validator(mode="before")
    @classmethod
    def _by_may_be_a_table(cls, values: Any) -> Any:
        return told_apart(values)

    @field_validator("by")
    @classmethod
    def _by_names_fields(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        for path in by:
            check_path(path)
        check_distinct(by)
        return by

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever the declaration does."""
        text = orjson.dumps([FORMAT, type(self).__name__, self.model_dump(mode="json")], option=orjson.OPT_SORT_KEYS)
        return blake2b(text, digest_size=8).hexdigest()


class ListDeclaration(Declaration):
    """Pages of documents, filtered by equality, in one order."""

    shows_documents: ClassVar[bool] = True

    where: dict[str, Any] = Field(default_factory=dict)
    """Constants that every document of the list holds."""
    sort: Annotated[tuple[str, ...], Field(max_length=MAX_SORT)] = ("_id",)
    """`-field` descends. `_id` is added at the end if it is not named: no two documents share a place."""
    page_size: Annotated[int, Field(ge=1, le=200)] = 25
    cached_pages: Annotated[int, Field(ge=0, le=100)] = 4
    """The first pages; deeper ones read MongoDB."""

    @field_validator("where")
    @classmethod
    def _where_names_fields(cls, where: dict[str, Any]) -> dict[str, Any]:
        for path, constant in where.items():
            check_path(path)
            is_wide = isinstance(constant, int) and not -(2**63) <= constant < 2**63
            if not isinstance(constant, Constant) or constant != constant or is_wide:
                raise wrong(f"{path} is compared with {constant!r}", "use a text, a number, true or false")
        return where

    @field_validator("sort")
    @classmethod
    def _sort_ends_in_the_key(cls, sort: tuple[str, ...]) -> tuple[str, ...]:
        paths = [path.removeprefix("-") for path in sort]
        for path in paths:
            check_path(path)
        check_distinct(paths)
        if "_id" in paths and paths.index("_id") < len(paths) - 1:
            raise wrong("_id is not the last field", "end the list at _id: nothing after it can matter")
        return sort if "_id" in paths else (*sort, "_id")

    @model_validator(mode="after")
    def _where_and_by_differ(self) -> "ListDeclaration":
        for path in self.where:
            if path in self.by:
                raise wrong(f"{path} is both a constant and a filter", "remove it from where or from by", "where")
        return self

    @property
    def order(self) -> tuple[tuple[str, int], ...]:
        """The sort as MongoDB takes it: path and 1 or -1."""
        return tuple((path.removeprefix("-"), -1 if path[0] == "-" else 1) for path in self.sort)


class SumDeclaration(BaseModel):
    """A sum of a numeric field, exact: inside it is a whole number of 1/10^scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    scale: Annotated[int, Field(ge=0, le=18)] = 0
    """Decimal places. A value with more of them makes its group's sum unknown, never rounded."""

    @field_validator("field")
    @classmethod
    def _field_is_a_path(cls, field: str) -> str:
        return check_path(field)


class CounterDeclaration(Declaration):
    """How many documents, and the sums of their fields, for each group."""

    sums: dict[str, SumDeclaration] = Field(default_factory=dict)

    @field_validator("sums")
    @classmethod
    def _sums_fit_into_answers(cls, sums: dict[str, SumDeclaration]) -> dict[str, SumDeclaration]:
        for name in sums:
            check_name(name)
        return sums


class RankingDeclaration(Declaration):
    """Documents by a score, the highest first; equal scores by key, ascending."""

    score: str
    """`-field` ranks the lowest first. Documents whose field is not a finite number or a date have no rank."""
    size: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many a caller may ask for. All documents are kept, so the top stays exact when leaders fall."""

    @field_validator("score")
    @classmethod
    def _score_is_a_path(cls, score: str) -> str:
        check_path(score.removeprefix("-"))
        return score

    @property
    def path(self) -> str:
        return self.score.removeprefix("-")

    @property
    def descends(self) -> bool:
        return self.score[0] != "-"


def check_name(name: str) -> str:
    """The name of a list, counter, ranking or sum: it stands in URLs, answers and Redis keys."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        raise wrong(
            f"{name!r} is not a name", "use 1 to 63 of the characters a-z, 0-9, _ and -, starting with a letter"
        )
    return name


def declared_as(kind: str, name: str) -> str:
    """`lists.departures`, as people name a declaration; what is kept as a list and declared otherwise has a name with
    a dot, which says as what: `lookups.email`."""
    return name if "." in name else f"{kind}.{name}"


@dataclass(frozen=True, slots=True)
class Derivation:
    """One thing that is derived."""

    kind: str
    """A field of `Declared`, or `lookups`."""
    name: str
    declared: Declaration

    @property
    def full_name(self) -> str:
        """`lists.departures`, as people name it."""
        return f"{self.kind}.{self.name}"


class Declared(BaseModel):
    """What a team declares to be derived: by kind, by name. A further kind is a field more. Whoever decides something
    about it has a module of the same name, see CONTRIBUTING.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: dict[str, ListDeclaration] = Field(default_factory=dict)
    """Pages of documents, at `/v1/{name}/-/lists/{list}`."""
    counters: dict[str, CounterDeclaration] = Field(default_factory=dict)
    """Counts and sums, at `/v1/{name}/-/counters/{counter}`."""
    rankings: dict[str, RankingDeclaration] = Field(default_factory=dict)
    """The documents with the highest scores, at `/v1/{name}/-/rankings/{ranking}`."""

    def derivations(self) -> Iterator[Derivation]:
        """All that is declared, kind by kind."""
        for kind in DECLARED:
            for name, declared in getattr(self, kind).items():
                is_lookup = isinstance(declared, ListDeclaration) and name.startswith(f"{LOOKUPS}.")
                yield Derivation(*((LOOKUPS, name.partition(".")[2]) if is_lookup else (kind, name)), declared)


DECLARED: Final[Mapping[str, type[Declaration]]] = {
    kind: get_args(field.annotation)[1] for kind, field in Declared.model_fields.items()
}
"""Kind -> how one of it is declared."""
LOOKUPS: Final = "lookups"
"""What is kept as a list and declared otherwise."""
KIND_NAMES: Final = (*DECLARED, LOOKUPS)
_SPELLED: Final = frozenset(("lists", "counters", "rankings"))
"""Kinds that every text of declarations names. One that has come later is left out where nothing of it is declared:
so the release that brings it builds nothing again, and the one before it still reads what is there."""


class Declarations(Declared):
    """All that is derived from one resource; its look-ups are among the lists. Its text travels with every
    generation, so that each consumer keeps a generation as it was declared, whatever its own catalog says by now."""

    format: int = FORMAT
    shown: tuple[str, ...] | None = None
    """Fields that a list's pages show besides `_id`; `None`: all."""

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in DECLARED)

    @property
    def tagged_paths(self) -> tuple[str, ...]:
        """Fields that make groups of what shows documents: events should name their new values."""
        showing = (one.declared for one in self.derivations() if one.declared.shows_documents)
        return tuple(dict.fromkeys(path for one in showing for path in one.by))

    def named(self, full_name: str) -> Derivation | None:
        """`lists.departures`; `None`: there is no such thing."""
        return next((one for one in self.derivations() if one.full_name == full_name), None)

    @property
    def text(self) -> str:
        """One spelling, so that equal declarations have equal texts."""
        silent = {kind for kind in DECLARED if kind not in _SPELLED and not getattr(self, kind)}
        return orjson.dumps(self.model_dump(mode="json", exclude=silent), option=orjson.OPT_SORT_KEYS).decode()

    @property
    def digest(self) -> str:
        return blake2b(self.text.encode(), digest_size=8).hexdigest()

    def digests(self) -> Mapping[str, str]:
        """`lists.departures` -> digest, for everything. A list's also covers what its pages show."""
        return {one.full_name: self._digest_of(one.declared) for one in self.derivations()}

    def _digest_of(self, declared: Declaration) -> str:
        if not declared.shows_documents:
            return declared.digest
        shown = ",".join(self.shown) if self.shown is not None else "*"
        return blake2b(f"{declared.digest} {shown}".encode(), digest_size=8).hexdigest()
