"""What `neverstale init` writes: a commented catalog, a settings file, and the roles to create in MongoDB."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from neverstale.catalog.lookups import MOST_LOOKUPS, is_lookup
from neverstale.ops.init.survey import CollectionSurvey
from neverstale.ops.privileges.mongodb import roles_script, users_script

KEY_TYPES: Final = {"string": "string", "int": "int", "long": "int", "objectId": "objectid", "uuid": "uuid"}
"""How MongoDB names the type of an `_id` -> how the catalog does."""
FIELD_TYPES: Final = {
    "string": "string",
    "int": "int",
    "long": "long",
    "double": "double",
    "decimal": "decimal",
    "bool": "bool",
    "date": "date",
    "objectId": "objectid",
    "uuid": "uuid",
    "binData": "binary",
    "object": "object",
    "array": "array",
}
_NOTHING: Final = frozenset(("null", "undefined", "missing"))
_RESERVED: Final = frozenset(("freshness",))
_UNIQUE: Final = re.compile(r"([^,()]+?)(?: descending)? \(unique(?:, sparse)?\)")
"""Of an index in words (`neverstale.ops.init.survey`): one field, unique among all documents that have it."""
_NO_NAME: Final = re.compile(r"[^a-z0-9_-]+")


def key_type(types: Mapping[str, int]) -> str | None:
    """The type of `_id` that most documents have, as the catalog names it; `None`: none that can be served."""
    counts: dict[str, int] = {}
    for name, count in types.items():
        if name in KEY_TYPES:
            counts[KEY_TYPES[name]] = counts.get(KEY_TYPES[name], 0) + count
    return max(counts, key=lambda name: counts[name]) if counts else None


def field_type(types: Mapping[str, int]) -> str:
    """The type of a field as the catalog names it; `any` where a field holds several."""
    found = {FIELD_TYPES.get(name, "any") for name in types if name not in _NOTHING}
    if found == {"int", "long"}:
        return "long"
    return found.pop() if len(found) == 1 else "any"


def resource_names(collections: Iterable[str]) -> dict[str, str]:
    """Collection -> a name for URLs, each another."""
    names: dict[str, str] = {}
    for collection in collections:
        wanted = _NO_NAME.sub("-", collection.lower()).strip("-_") or "collection"
        wanted = wanted if wanted[0].isalpha() else f"c-{wanted}"
        name, number = wanted[:60], 1
        while name in names.values() or name in _RESERVED:
            number += 1
            name = f"{wanted[:56]}-{number}"
        names[collection] = name
    return names


def catalog(database: str, surveyed: Sequence[CollectionSurvey]) -> str:
    """The text of a catalog file. What cannot be served stands in it as a comment that says why."""
    served = [one for one in surveyed if not reason_against(one)]
    names = resource_names(one.name for one in served)
    lines = [
        "# What neverstale serves, made by `neverstale init` from what MongoDB holds. Every field is explained in",
        "# docs/catalog.md; `neverstale check` says what is wrong with this file.",
        f"database = {_text(database)}",
    ]
    for one in surveyed:
        lines.append("")
        lines += _resource(one, names[one.name]) if one in served else _left_out(one)
    return "\n".join(lines) + "\n"


def reason_against(one: CollectionSurvey) -> str | None:
    """Why a collection is left out; `None`: it is served."""
    if one.why_not is not None:
        return one.why_not
    if one.refused is not None:
        return f"the user may not read {one.name} (MongoDB says {one.refused})"
    if not one.sampled:
        return f"{one.name} is empty; nobody can tell the type of its keys"
    if key_type(one.key_types) is None:
        return f"no _id of {one.name} can stand in a path: they are of the types {', '.join(sorted(one.key_types))}"
    return None


def _left_out(one: CollectionSurvey) -> list[str]:
    return _comment(f"{one.name} is left out: {reason_against(one)}")


def _resource(one: CollectionSurvey, name: str) -> Iterator[str]:
    served = key_type(one.key_types)
    yield from _comment(f"{one.name}: about {one.documents:,} documents; {one.sampled:,} were looked at.")
    others = {kind: count for kind, count in one.key_types.items() if KEY_TYPES.get(kind) != served}
    if others:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        yield from _comment(f"Documents whose _id has another type are not served; there were {told}.")
    for index in one.indexes:
        yield from _comment(f"Index: {index}")
    yield f"[resources.{name}]"
    if name != one.name:
        yield f"collection = {_text(one.name)}"
    yield f'key_type = "{served}"'
    yield 'on_change = "auto" # refresh what is being read; or "invalidate", "refresh"'
    yield "ttl_seconds = 3600 # frees memory; freshness does not depend on it"
    if unique := unique_fields(one):
        yield f"# One document by a field that no two share, at /v1/{name}/-/by/{unique[0]}/{{value}}:"
        yield f"# lookups = [{', '.join(map(_text, unique))}]"
    shown = [path for path in one.fields if _is_declarable(path)]
    odd = [path for path in one.fields if not _is_declarable(path)]
    if odd:
        yield from _comment(f"Not declared, since their names are no field names here: {', '.join(map(_text, odd))}")
    if shown and not odd:
        yield "# All fields are served. To serve only some, and to type them in OpenAPI, take the signs away:"
        yield f"# [resources.{name}.fields]"
        yield from (f"# {_key(path)} = {_field(path, one)}" for path in shown)
    yield from _example(one, name)


def unique_fields(one: CollectionSurvey) -> list[str]:
    """The fields that an index of their own keeps unique, and that a look-up may name."""
    named = [match[1] for index in one.indexes if (match := _UNIQUE.fullmatch(index)) is not None]
    types = {path: field_type(kinds) for path, kinds in one.fields.items()}
    return [path for path in dict.fromkeys(named) if is_lookup(path, types)][:MOST_LOOKUPS]


def _field(path: str, one: CollectionSurvey) -> str:
    types = one.fields[path]
    told = f'"{field_type(types)}"'
    if len([kind for kind in types if kind not in _NOTHING]) > 1:
        told += f" # held {', '.join(sorted(types))}"
    elif sum(types.values()) < one.sampled:
        told += f" # in {sum(types.values()):,} of {one.sampled:,}"
    return told


def _example(one: CollectionSurvey, name: str) -> Iterator[str]:
    """A list for the first field that could make groups, as a comment."""
    for path, types in one.fields.items():
        if path.isidentifier() and field_type(types) in ("string", "bool") and sum(types.values()) == one.sampled:
            yield f"# Pages by {path} at /v1/{name}/-/lists/by-{_slug(path)}, with an index {{ {path}: 1, _id: 1 }}:"
            yield f"# [resources.{name}.lists.by-{_slug(path)}]"
            yield f"# by = [{_text(path)}]"
            yield '# sort = ["_id"]'
            return


def _slug(path: str) -> str:
    return _NO_NAME.sub("-", path.lower()).strip("-_") or "field"


def settings(catalog_file: str) -> str:
    """The text of a settings file. No secret stands in it."""
    return "\n".join(
        (
            "# Settings, made by `neverstale init`. Every setting is explained in docs/settings.md; a variable, for",
            "# example NEVERSTALE_REDIS__URL, wins over this file. Keep what has a password in it in a variable.",
            f"catalog = {_text(catalog_file)}",
            "",
            "# [mongodb]",
            "# uri = NEVERSTALE_MONGODB__URI",
            "",
            "[kafka]",
            'bootstrap_servers = "localhost:9092"',
            "partitions = 4 # at least as many as consumers will ever run",
            "replication_factor = 1 # 3 in production",
            "",
            "[redis]",
            'url = "redis://localhost:6379/0"',
            "",
        )
    )


def roles(database: str, collections: Iterable[str]) -> str:
    """Lines for `mongosh` that create one role and one user for each of our roles, with no more than they need."""
    return f"{roles_script(database, collections)}\n{users_script(database)}"


def _is_declarable(path: str) -> bool:
    return bool(path) and path[0] != "$" and "." not in path and "\0" not in path


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in text.translate(_ONE_LINE).splitlines()]


_ONE_LINE: Final = dict.fromkeys((*range(32), 127, *range(128, 160), 8232, 8233), " ")


def _key(path: str) -> str:
    return path if re.fullmatch(r"[A-Za-z0-9_-]+", path) else _text(path)


def _text(value: str) -> str:
    """A string as TOML and JavaScript spell it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
