"""The parameters of a view, taken out of a query string: `expand=carrier,origin.city`, `fields=status,carrier.name`.

Both may be repeated. A comma between names is a comma; a client that encodes every comma is understood, too.
"""

from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

from neverstale.api.callers.middleware import visit_of
from neverstale.api.linked.view import View, Views
from neverstale.api.web.paths import parameters_of, text_of
from neverstale.api.web.problems import bad_parameter

EXPAND: Final = "expand"
FIELDS: Final = "fields"
NAMES: Final = (EXPAND, FIELDS)
_EXAMPLES: Final = {EXPAND: "names no reference", FIELDS: "names no field"}


def view_of(scope: Scope, views: Views) -> tuple[View, bytes]:
    """The view that a request asks for, and the rest of its query string. A `Problem` says what is wrong, or of which
    resource its caller may not read documents."""
    view, rest = taken_out(scope["query_string"], views)
    if not view.is_whole:
        require(scope, view)
    return view, rest


def require(scope: Scope, view: View) -> None:
    """A `Problem` if the caller may not read documents of a resource that the view leads to."""
    for resource in sorted({name for each in view.followed for name in each.view.resources}):
        visit_of(scope).require(resource)


def taken_out(query: bytes, views: Views) -> tuple[View, bytes]:
    """The view that a query string asks for, and the rest of the query string. A `Problem` says what is wrong."""
    if not query:
        return views.whole, query
    named: dict[str, list[str]] = {}
    rest: list[bytes] = []
    for pair in query.split(b"&"):
        for name, value in parameters_of(pair):
            if name in NAMES:
                named.setdefault(name, []).extend(_listed(name, value))
            else:
                rest.append(pair)
    return (views.of(named.get(EXPAND, ()), named.get(FIELDS)) if named else views.whole), b"&".join(rest)


def _listed(name: str, value: bytes) -> Sequence[str]:
    names = text_of(value, name).split(",")
    if not all(names):
        raise bad_parameter(name, _EXAMPLES[name] if len(names) == 1 else "has nothing between two commas")
    return names
