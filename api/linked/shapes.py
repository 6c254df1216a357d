"""Shapes: parsed documents of which parts are left out or put in.

As in MongoDB's projections a path leads into objects and into the objects of an array, not into arrays of arrays.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from neverstale.api.linked.view import Selection


def selected(document: dict[str, Any], selection: Selection) -> dict[str, Any]:
    """What is selected of a document, in the document's order."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if name in selection:
            inside = selection[name]
            if inside is None:
                found[name] = value
            elif isinstance(value, dict):
                found[name] = selected(value, inside)
            elif isinstance(value, list):
                found[name] = [selected(each, inside) for each in value if isinstance(each, dict)]
    return found


def places(document: dict[str, Any], path: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Each place that a path leads to: what holds the value, and under which name or number. The elements of an
    array have a place each."""
    name, *rest = path
    if name not in document:
        return
    value = document[name]
    if rest:
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, dict):
                yield from places(each, rest)
    elif isinstance(value, list):
        yield from ((value, number) for number in range(len(value)))
    else:
        yield document, name
