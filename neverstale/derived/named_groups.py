"""Naming: the new facts of group fields, as far as a change event tells them without the document.

| what happened to a path                                 | its new fact                                           |
|---------------------------------------------------------|--------------------------------------------------------|
| the document was inserted or replaced                   | of the value in the event                              |
| an update set it, or an object that it lies in          | of the new value                                       |
| an update removed it, or an object that it lies in      | of nothing: the group `null`                           |
| a part of it was set, removed or truncated              | not named                                              |
| it leads through an array                               | not named, if the event has an array where it leads    |

The consumers raise the whole list's floor where a path was met and is not named (see `neverstale.derived.plan`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from neverstale.derived.groups import BEYOND, fact


def named(paths: Sequence[str], changed: Sequence[str] | None, values: Mapping[str, Any]) -> dict[str, str]:
    """Path -> new fact.

    `changed`: the paths that an update set or removed as a whole, `None` for an insert or a replacement. `values`:
    what the paths are now; a path that leads to nothing, or to null, may be missing.
    """
    facts = {}
    for path in paths:
        value = values.get(path)
        if (changed is None or _was_set(path, changed)) and not ("." in path and isinstance(value, list)):
            known = fact((value,))
            if known != BEYOND:
                facts[path] = known
    return facts


def _was_set(path: str, changed: Sequence[str]) -> bool:
    """Whether the path, or one that it lies in, is among those that changed."""
    if path in changed:
        return True
    while "." in path:
        path = path.rpartition(".")[0]
        if path in changed:
            return True
    return False
