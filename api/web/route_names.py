"""What metrics and traces call a route: its path as OpenAPI has it."""

from typing import Final

from starlette.types import Scope

from neverstale.api.web.paths import PREFIX

OTHER: Final = "other"
"""Paths that no route takes, and pages for people and machines: nobody can make many names of them."""
COUNTED: Final = ""
"""Told of an answer that is counted elsewhere."""
_KEY: Final = "neverstale.route"


def route_of(source: str) -> str:
    """Of a source that is answered before any routing, by its name."""
    resource, _, rest = source.partition(".")
    kind, _, name = rest.partition(".")
    if kind == "lookups":
        return f"{PREFIX}{resource}/-/by/{name}/{{value}}"
    return f"{PREFIX}{resource}/-/{kind}/{name}" if kind else f"{PREFIX}{resource}/{{key}}"


def listen(scope: Scope) -> list[str]:
    """What the routes behind will tell, in a list: it survives copies of the scope."""
    told: list[str] = [OTHER]
    scope[_KEY] = told
    return told


def tell_route(scope: Scope, route: str) -> None:
    """Note it for whoever stands before the routes and listens."""
    told = scope.get(_KEY)
    if told is not None:
        told[0] = route
