"""Group values: what a field of a document contributes to, as text.

| the field's value                    | contributes to                                                      |
|--------------------------------------|---------------------------------------------------------------------|
| missing, null, undefined             | the group `null`, as `{field: null}` matches both in MongoDB        |
| a string, number, date, … (a scalar) | the group of that value                                             |
| an object                            | the group of that object; numbers in it compare by value            |
| an array                             | the group of each distinct element, once                            |
| an empty array                       | no group                                                            |
| an array in an array                 | the group of the inner array as a whole                             |
| more than 32 distinct elements       | none: the document is *beyond* the bound, and whoever asks is told  |
| a value of more than 512 bytes       | none: beyond, as above                                              |
| a path through an array of objects   | the values in each of the objects, as in a MongoDB query            |

Numbers of any type are one group if they are equal (1, 1.0, `NumberLong(1)`, `NumberDecimal("1.00")`), as MongoDB
compares them. Strings compare byte by byte: a collection's collation is not followed.

A value is spelled by `neverstale.bson.texts`. A *fact* is a field's texts, joined by `JOIN`; a *group* of several
fields is their texts, joined by `|`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice, product
from typing import Any, Final

from bson.code import Code

from neverstale.bson.texts import text_of
from neverstale.bson.values import RawObject, RawValue

JOIN: Final = "\x1e"
"""Between the texts of an array's elements."""
SPLIT: Final = "\x1f"
"""Between a document's facts, see `neverstale.derived.facts`."""
BEYOND: Final = "*"
"""The fact of a field that is beyond a bound. No text is `*`."""
MAX_TEXTS: Final = 32
"""Groups that one document contributes to, for each field and for each declaration."""
MAX_TEXT_BYTES: Final = 512
_HOLDERS: Final = frozenset((dict, list, RawObject, RawValue, Code))
"""Types of values that may hold many others."""


def fact(values: Sequence[Any]) -> str:
    """The distinct texts of everything that a path finds in a document, joined; `BEYOND` past a bound."""
    texts: dict[str, None] = {}
    for value in values:
        for element in value if isinstance(value, list) else (value,):
            if type(element) in _HOLDERS and _is_large(element):
                return BEYOND
            text = text_of(element)
            if len(text) > MAX_TEXT_BYTES // 4 and len(text.encode()) > MAX_TEXT_BYTES:
                return BEYOND
            texts[text] = None
            if len(texts) > MAX_TEXTS:
                return BEYOND
    return JOIN.join(texts)


def _is_large(value: Any) -> bool:
    """Whether a value with others in it is too large for a text, told without spelling it: it may have 16 MB."""
    values, left = [value], MAX_TEXT_BYTES
    while values and left > 0:
        match one := values.pop():
            case RawObject():
                left -= len(one.raw) // 16  # a number takes up to 16 bytes, in its one spelling at least 4
            case RawValue():
                left -= len(one.payload) // 16
            case dict() | list():
                left -= len(one) + 1
                values += islice(one.values() if isinstance(one, dict) else one, MAX_TEXT_BYTES)
            case str() | bytes():
                left -= len(one) // 2
                values += [one.scope] if isinstance(one, Code) and one.scope else []
    return left <= 0


def at_path(document: Mapping[str, Any], path: str) -> list[Any]:
    """Everything that a path finds; one `None` where it finds nothing. Arrays of objects fan out."""
    name, _, rest = path.partition(".")
    value = document.get(name)
    if not rest:
        return [value]
    if isinstance(value, Mapping):
        return at_path(value, rest)
    if isinstance(value, list):
        found = [item for element in value if isinstance(element, Mapping) for item in at_path(element, rest)]
        return found or [None]
    return [None]


def fact_at(document: Mapping[str, Any], path: str) -> str:
    """The fact of one path of a document."""
    if "." not in path:
        value = document.get(path)
        if type(value) is str and len(value) <= MAX_TEXT_BYTES // 4:
            return text_of(value)
        return fact((value,))
    return fact(at_path(document, path))


def texts_of(joined: str) -> tuple[str, ...] | None:
    """The texts of a fact: none for an empty array; `None` if the field is beyond a bound."""
    if joined == BEYOND:
        return None
    return tuple(joined.split(JOIN)) if joined else ()


def group(texts: Sequence[str]) -> str:
    """The name of a group of several fields; the empty text for no field."""
    return "|".join(texts)


def members(name: str, fields: int) -> tuple[str, ...]:
    """The texts of a group, one for each field; the opposite of `group`."""
    return tuple(name.split("|")) if fields else ()


@lru_cache(maxsize=65_536)
def combinations(facts: tuple[str, ...]) -> tuple[str, ...] | None:
    """The groups of a document with these facts; `None` if there are too many of them, or a fact is beyond."""
    joined = "|".join(facts)
    if JOIN not in joined and BEYOND not in facts and "" not in facts:
        return (joined,)
    choices = [texts_of(item) for item in facts]
    return crossed(choices)


def crossed(choices: Sequence[Sequence[str] | None]) -> tuple[str, ...] | None:
    """Every group that takes one text of each choice; `None` if there are too many, or a choice is beyond."""
    count = 1
    for texts in choices:
        if texts is None:
            return None
        count *= len(texts)
    if count > MAX_TEXTS:
        return None
    return tuple("|".join(texts) for texts in product(*(texts for texts in choices if texts is not None)))


def meets(changed: str, path: str) -> bool:
    """Whether a change at one path may change what another finds: they are equal, or one lies inside the other.

    Positions in arrays (`legs.0.gate`) are nothing that a declared path names.
    """
    if changed == path:
        return True
    if "." in changed:
        changed = ".".join(part for part in changed.split(".") if not part.isdigit())
    return changed == path or changed.startswith(path + ".") or path.startswith(changed + ".")
