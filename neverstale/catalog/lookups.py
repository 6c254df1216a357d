"""Look-ups: one document by another of its fields, `lookups = ["email"]`.

To everybody but the API a look-up is a list whose groups are the values of its field: it is derived, kept and vouched
for like any other, without a rule of its own.
"""

import re
from collections.abc import Mapping
from typing import Final

from pydantic_core import PydanticCustomError

from neverstale.catalog.declarations import LOOKUPS, ListDeclaration, check_distinct, check_path
from neverstale.misconfiguration import wrong

MOST_LOOKUPS: Final = 8
"""Of one resource."""
LISTS: Final = "lists"
"""The kind that look-ups are kept as."""
_PREFIX: Final = f"{LOOKUPS}."
"""No list that is declared has a dot in its name."""
_IN_URLS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_NO_VALUES: Final = frozenset(("object",))
"""Types of fields that no text in a path can name."""


def list_name(path: str) -> str:
    """What the list of a look-up is called among those of its resource."""
    return _PREFIX + path


def as_list(path: str) -> ListDeclaration:
    """A page for each value, with the one document that has it."""
    return ListDeclaration(by=(path,), page_size=1, cached_pages=1)


def is_lookup(path: str, fields: Mapping[str, str]) -> bool:
    """Whether a look-up may go by this field of a collection; `fields` are the types that are known."""
    try:
        check_lookups((path,), fields)
    except PydanticCustomError:
        return False
    return True


def check_lookups(paths: tuple[str, ...], fields: Mapping[str, str] | None) -> None:
    """Raises for what cannot be looked up by; `fields` are the types that are declared."""
    for path in paths:
        if path == "_id":
            raise wrong("_id is what documents are read by anyway", "remove it", "lookups")
        check_path(path)
        if not _IN_URLS.fullmatch(path):
            remedy = "name a field of at most 128 of the characters A-Z, a-z, 0-9, _, . and -"
            raise wrong(f"{path!r} cannot stand in a path", remedy, "lookups")
        if (fields or {}).get(path) in _NO_VALUES:
            remedy = f'name a field of it, e.g. "{path}.id"'
            raise wrong(f"{path} is an object, which no text in a path can name", remedy, "lookups")
    check_distinct(paths)
