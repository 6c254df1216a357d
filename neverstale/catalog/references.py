"""References: fields that hold the key of another resource's document.

```toml
[resources.flights.refs.carrier]
to = "airlines"

[resources.flights.refs.alternates]     # a field of another name; an array of keys is followed, too
to = "airports"
field = "plan.alternates"
```
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict

from neverstale.catalog.declarations import check_path
from neverstale.keys import KeyType
from neverstale.misconfiguration import wrong

KEPT_AS: Final[Mapping[KeyType, frozenset[str]]] = {
    "string": frozenset(("string",)),
    "int": frozenset(("int", "long", "double")),
    "objectid": frozenset(("objectid",)),
    "uuid": frozenset(("uuid",)),
}
"""The types of fields that can hold a key of each type; 2.0 is equal to 2."""
HOLDERS: Final = frozenset(("array", "any"))
"""Types of fields that may hold keys of any type, alone or inside."""
INSIDE: Final = HOLDERS | {"object"}
"""Types of fields with fields inside."""


class Reference(BaseModel):
    """A field that holds the `_id` of a document of another resource, or an array of such."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str
    """The resource whose documents it names."""
    field: str | None = None
    """Its path, such as `plan.alternates`; default: the reference's name."""


def path_of(name: str, reference: Reference) -> tuple[str, ...]:
    """Where the key lies in a document."""
    return tuple((reference.field or name).split("."))


def _check_names(refs: dict[str, Reference]) -> dict[str, Reference]:
    paths: dict[tuple[str, ...], str] = {}
    for name, reference in refs.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", name):
            remedy = 'use up to 63 letters, digits, _ and -, and name the field apart: field = "plan.alternates"'
            raise wrong(f"{name!r} is not the name of a reference", remedy)
        check_path(reference.field or name)
        path = path_of(name, reference)
        if path[0] == "_id":
            raise wrong(f"{name} would replace the key of the document itself", "refer from another field")
        for other, its_name in paths.items():
            if path[: len(other)] == other[: len(path)]:
                raise wrong(f"{name} and {its_name} lie in the same field", "keep one of them")
        paths[path] = name
    return refs


References = Annotated[dict[str, Reference], AfterValidator(_check_names)]
"""By the name that callers use in `expand`."""


def wrong_field(path: tuple[str, ...], fields: Mapping[str, str] | None, key_type: KeyType) -> tuple[str, str] | None:
    """What is wrong with a reference from this field to keys of a type, and the remedy; `None`: nothing."""
    if fields is None:
        return None
    first, declared = path[0], fields.get(path[0])
    if declared is None:
        example = key_type if len(path) == 1 else "object"
        return f"{first} is not among fields, so it is not read", f'add {first} = "{example}" to fields'
    if len(path) > 1:
        fits = INSIDE
        remedy = f'declare it as one that has fields inside, e.g. {first} = "object"'
    else:
        fits = KEPT_AS[key_type] | HOLDERS
        remedy = f'declare it as the key is, e.g. {first} = "{key_type}", or as "array" of such keys'
    return None if declared in fits else (f"{first} is declared as {declared}", remedy)
