"""What a resource declares: a collection, its keys, and what is derived from it."""

import re
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from neverstale.catalog.declarations import DECLARED, Declaration, Declarations, Declared, check_name
from neverstale.catalog.lookups import LISTS, MOST_LOOKUPS, as_list, check_lookups, list_name
from neverstale.catalog.references import References
from neverstale.catalog.tenants import TENANT_TYPES, Tenant
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.keys import KeyType
from neverstale.misconfiguration import wrong

FieldType = Literal[
    "string",
    "int",
    "long",
    "double",
    "decimal",
    "bool",
    "date",
    "objectid",
    "uuid",
    "binary",
    "object",
    "array",
    "any",
]


OnChange = Literal["invalidate", "refresh", "auto"]


OWN_PREFIX = "neverstale."
"""Collections of ours (the watcher's heartbeat and position) start with it."""


BODIES: Final = 1
"""How documents are spelled in bodies. Rises when the same document is spelled otherwise, so that no release serves
what another one has spelled."""

MOST_GROUPS_SHOWN: Final = 1000


_MAX_TTL_SECONDS = 30 * 24 * 3600


_RESERVED_RESOURCES = frozenset(("freshness",))
"""Names that the API uses itself: `GET /v1/freshness`."""


NO_CHANGE_STREAMS = frozenset(("admin", "config", "local"))


Ttl = Annotated[int, Field(ge=1, le=_MAX_TTL_SECONDS)]


class Warm(BaseModel):
    """What is read into the cache before anybody asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field("", alias="from")
    """`lists.{name}`: first pages of all groups of this list; empty: none."""
    pages: Annotated[int, Field(ge=1, le=100)] = 1
    """Of each group."""
    most_read: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Documents, those that are read most."""

    @property
    def list_name(self) -> str:
        return self.source.removeprefix("lists.")

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.source and not self.source.startswith("lists."):
            raise wrong(f"{self.source!r} is not a list", 'name one, e.g. from = "lists.departures"', "from")
        if not self.source and not self.most_read:
            raise wrong("names nothing to read", 'name a list, e.g. from = "lists.departures", or most_read = 1000')
        return self


class Resource(Declared):
    """One kind of document that is served by its `_id`, and what is derived from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """In the URL and in Redis keys: `/v1/{name}/{key}`."""
    collection: str
    """Default: the name."""
    key_type: KeyType
    """The type of `_id`."""
    fields: dict[str, FieldType] | None = None
    """Top-level fields that are read and served besides `_id`; `None`: all."""
    ttl_seconds: Ttl = 3600
    """Life of a cached document, jittered by 10 % either way."""
    absent_ttl_seconds: Ttl = 30
    """Life of a cached absence."""
    on_change: OnChange = "auto"
    """What consumers do with a cached document that changed; `auto` refreshes what was read since its last fill."""
    stale_while_revalidate_seconds: Annotated[int, Field(ge=0, le=_MAX_TTL_SECONDS)] = 0
    """A stale body that is known to be at most so old is served at once, labelled, and read again; 0: never."""
    shared_max_age_seconds: Annotated[int, Field(ge=0, le=_MAX_TTL_SECONDS)] = 0
    """Caches between the API and callers (CDNs) may keep an answer until it is so old; 0: they may not."""
    expires_field: str | None = None
    """A date in the document after which it is not kept, e.g. of a login or a token."""
    refs: References = Field(default_factory=dict)
    """Fields that hold keys of other resources' documents; `expand` of a request names them."""
    lookups: Annotated[tuple[str, ...], Field(max_length=MOST_LOOKUPS)] = ()
    """Fields of which no two documents share a value, at `/v1/{name}/-/by/{field}/{value}`."""
    tenant: Tenant | None = None
    """Whose a document is: callers are shown those of their own tenant."""
    public: bool | None = None
    """Whether everybody may read it; `None`: as long as nobody can say who he is (`callers`)."""
    export: bool = True
    """Whether `/v1/{name}/-/export` streams the whole collection to callers."""
    most_read: bool = True
    """Whether `/v1/{name}/-/most-read` tells callers what is read most."""
    max_groups: Annotated[int, Field(ge=0, le=MOST_GROUPS_SHOWN)] = MOST_GROUPS_SHOWN
    """A counter lists at most so many groups in one answer; 0: it answers for one group only."""
    warm: Warm | None = None
    """Read by every API when it starts, before it is ready; see `neverstale warm`."""

    @cached_property
    def derived(self) -> Declarations:
        """All that is declared, and look-ups; false if there is nothing."""
        shown = tuple(self.fields) if self.fields is not None else None
        declared = {kind: getattr(self, kind) for kind in DECLARED}
        declared[LISTS] = declared[LISTS] | {list_name(path): as_list(path) for path in self.lookups}
        return Declarations(shown=shown, **declared)

    @model_validator(mode="after")
    def _lookups_name_fields(self) -> Self:
        check_lookups(self.lookups, self.fields)
        return self

    _database: str = PrivateAttr("")
    """Of the catalog that declares it."""
    _watcher_group: str = PrivateAttr(DEFAULT_GROUP)

    @property
    def watcher_group(self) -> str:
        """The group of watchers through whose stream and topic all of it comes."""
        return self._watcher_group

    @property
    def derived_name(self) -> str:
        """Under which its derived data is in Redis. Another watcher group, with owners of other partitions, derives
        under another name."""
        return derived_name(self.name, self.watcher_group)

    @cached_property
    def shows(self) -> str:
        """6 hex digits of all that the body of an entry depends on, and when it ends. Every entry carries them (see
        `neverstale.keys.digest`), so a body is served only where the same is declared."""
        shown = sorted(self.fields) if self.fields is not None else None
        text = orjson.dumps([BODIES, self._database, self.collection, self.key_type, shown, self.expires_field])
        return blake2b(text, digest_size=3).hexdigest()

    @property
    def needs_claims(self) -> bool:
        """Whether some of what is asked of it comes from credentials."""
        return self.tenant is not None or any(one.declared.claims for one in self.derivations())

    def claims_of(self, declared: Declaration) -> dict[str, str]:
        """Field -> claim of one of its declarations: also the tenant's, where that makes a group."""
        of_tenant = {self.tenant.field: self.tenant.claim} if self.tenant and self.tenant.field in declared.by else {}
        return of_tenant | declared.claims

    @model_validator(mode="after")
    def _tenants_are_told_apart(self) -> Self:
        if self.needs_claims and self.public:
            raise wrong("is true, but some of it depends on who asks", "remove it, or tenant and claims", "public")
        if self.needs_claims and self.shared_max_age_seconds:
            problem = "is set, but some of it depends on who asks, which a shared cache does not know"
            raise wrong(problem, "remove it, or tenant and claims", "shared_max_age_seconds")
        if self.tenant is not None and self.fields is not None:
            kind = self.fields.get(self.tenant.field)
            if kind not in TENANT_TYPES:
                known = f"add {self.tenant.field} to fields, of one of the types {', '.join(TENANT_TYPES)}"
                raise wrong(f"{self.tenant.field} is not among fields as one of these", known, "tenant.field")
        return self

    @field_validator(*DECLARED)
    @classmethod
    def _names_fit_into_urls(cls, declarations: dict[str, Any]) -> dict[str, Any]:
        for name in declarations:
            check_name(name)
        return declarations

    @model_validator(mode="before")
    @classmethod
    def _collection_defaults_to_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and "name" in values:
            return {"collection": values["name"], **values}
        return values

    @field_validator("name")
    @classmethod
    def _name_fits_into_urls(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
            raise wrong(
                f"{name!r} is not a resource name",
                "use 1 to 63 of the characters a-z, 0-9, _ and -, starting with a letter",
            )
        if name in _RESERVED_RESOURCES:
            raise wrong(f"the name {name} is taken by /v1/{name}", "choose another name")
        return name

    @model_validator(mode="after")
    def _expires_field_is_read(self) -> Self:
        field = self.expires_field
        if field is None:
            return self
        if not field or field[0] == "$" or "." in field or "\0" in field:
            raise wrong(f"{field!r} is not the name of a top-level field", "name a field of dates", "expires_field")
        if self.fields is not None and self.fields.get(field) != "date":
            raise wrong(f"{field} is not among fields as a date", f'add {field} = "date" to fields', "expires_field")
        return self

    @model_validator(mode="after")
    def _warm_names_cached_pages(self) -> Self:
        if self.warm is None or not self.warm.source:
            return self
        declared = self.lists.get(self.warm.list_name)
        if declared is None:
            known = ", ".join(f"lists.{name}" for name in self.lists) or "no list"
            raise wrong(f"there is no {self.warm.source}", f"declare it, or name one of: {known}", "warm.from")
        if self.warm.pages > declared.cached_pages:
            remedy = f"use at most {declared.cached_pages}, or raise its cached_pages"
            raise wrong(f"{self.warm.pages} is more than {self.warm.source} keeps", remedy, "warm.pages")
        return self

    @field_validator("collection")
    @classmethod
    def _collection_can_be_watched(cls, collection: str) -> str:
        if not collection or "$" in collection or "\0" in collection or collection[0] == ".":
            raise wrong(
                f"{collection!r} is not a collection name", "use a name without '$' that does not start with '.'"
            )
        if collection.startswith(("system.", OWN_PREFIX)):
            owner = "neverstale" if collection.startswith(OWN_PREFIX) else "MongoDB"
            raise wrong(f"{collection} belongs to {owner} itself", "name a collection of your own")
        return collection

    @field_validator("fields")
    @classmethod
    def _fields_are_top_level(cls, fields: dict[str, FieldType] | None) -> dict[str, FieldType] | None:
        if fields == {}:
            raise wrong("declares no field", "name at least one, or leave it out to serve all")
        for field in fields or ():
            if field == "_id":
                raise wrong("_id is always served, as key_type says", "remove _id from fields")
            if not field or field[0] == "$" or "." in field or "\0" in field:
                raise wrong(
                    f"{field!r} is not the name of a top-level field",
                    'name the top-level field, e.g. address = "object"',
                )
        return fields


def derived_name(resource: str, group: str) -> str:
    """The name of what a watcher group derives of a resource."""
    return resource if group == DEFAULT_GROUP else f"{resource}@{group}"
