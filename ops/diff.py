"""`neverstale diff`: what another catalog changes, builds anew and makes cold, before anybody runs with it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from neverstale.catalog import Catalog, Resource
from neverstale.catalog.declarations import KIND_NAMES
from neverstale.ops.terminal.output import console, plain, print_json, table

Effect = Literal["new", "gone", "cold", "built", "other"]

EFFECTS: Final[dict[Effect, str]] = {
    "new": "served once the API has read the catalog; cached once watcher and consumers have, too",
    "gone": "not served any more; what Redis holds of it runs out unread",
    "cold": "what Redis holds of it is not served any more; each is read again when it is asked for",
    "built": "a walk builds it beside the old; until it is complete MongoDB answers",
    "other": "takes effect when the API and consumers have read the catalog; nothing becomes cold",
}
_LOCATES: Final = frozenset(("collection", "key_type"))
_SHOWS: Final = frozenset((*_LOCATES, "expires_field"))
"""What entries depend on, besides `fields`."""


@dataclass(frozen=True, slots=True)
class Redeclared:
    """One thing that the new catalog declares otherwise."""

    of: str
    """E.g. `flights`, `flights.ttl_seconds`, `flights.lists.departures`."""
    change: str
    effect: Effect


def differences(old: Catalog, new: Catalog) -> list[Redeclared]:
    """All that `new` declares otherwise than `old`, by resource."""
    found: list[Redeclared] = []
    if old.database != new.database:
        # Everything in Redis and in the topic speaks of the database that it was made for.
        found.append(Redeclared("database", f"{old.database} → {new.database}", "cold"))
    for name in sorted(old.resources.keys() | new.resources.keys()):
        before, after = old.resources.get(name), new.resources.get(name)
        if before is None:
            found.append(Redeclared(name, "added", "new"))
        elif after is None:
            found.append(Redeclared(name, "taken out", "gone"))
        else:
            found += _of_resource(before, after)
    return found


def _of_resource(before: Resource, after: Resource) -> Iterator[Redeclared]:
    name = after.name
    for field in type(after).model_fields:
        was, becomes = getattr(before, field), getattr(after, field)
        if was == becomes or field in ("name", "fields", *KIND_NAMES):
            continue
        yield Redeclared(
            f"{name}.{field}", f"{_text(was)} → {_text(becomes)}", "cold" if field in _SHOWS else "other"
        )
    if before.watcher_group != after.watcher_group:
        yield Redeclared(f"{name}.watcher_group", f"{before.watcher_group} → {after.watcher_group}", "cold")
    yield from _of_fields(before, after)
    yield from _of_derived(before, after)


def _of_fields(before: Resource, after: Resource) -> Iterator[Redeclared]:
    was, becomes = before.fields, after.fields
    if was == becomes:
        return
    if was is None or becomes is None:
        change = "all → " + _names(becomes) if becomes is not None else _names(was or ()) + " → all"
        yield Redeclared(f"{after.name}.fields", change, "cold")
        return
    for sign, some in (("+", becomes.keys() - was.keys()), ("-", was.keys() - becomes.keys())):
        if some:
            yield Redeclared(f"{after.name}.fields", f"{sign} {_names(sorted(some))}", "cold")
    if retyped := sorted(field for field in was.keys() & becomes.keys() if was[field] != becomes[field]):
        yield Redeclared(f"{after.name}.fields", f"other types: {_names(retyped)}", "other")


def _of_derived(before: Resource, after: Resource) -> Iterator[Redeclared]:
    if not after.derived and not before.derived:
        return
    moved = any(getattr(before, field) != getattr(after, field) for field in (*_LOCATES, "watcher_group"))
    # A generation is of all that a resource declares: one walk builds them together.
    rebuilt = moved or before.derived.text != after.derived.text
    was, becomes = before.derived.digests(), after.derived.digests()
    for one in sorted(was.keys() | becomes.keys()):
        name = f"{after.name}.{one}"
        if one not in becomes:
            yield Redeclared(name, "taken out", "gone")
        elif one not in was:
            yield Redeclared(name, "added", "built")
        elif was[one] != becomes[one] or moved:
            yield Redeclared(name, "declared otherwise", "built")
        elif rebuilt:
            yield Redeclared(name, "as before, in another generation", "other")


def _names(fields: Iterable[str]) -> str:
    return ", ".join(fields)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_text(each)}" for name, each in value.items()) or "none"
    return str(value.model_dump(by_alias=True, exclude_defaults=True)) if hasattr(value, "model_dump") else str(value)


def print_differences(found: list[Redeclared], *, as_json: bool) -> None:
    if as_json:
        print_json({"differences": [asdict(one) for one in found], "effects": EFFECTS})
        return
    out = console()
    if not found:
        out.print("Both catalogs declare the same.")
        return
    shown = table("what", "change", "effect")
    for one in found:
        shown.add_row(plain(one.of), plain(one.change), one.effect)
    out.print(shown)
    for effect, meaning in EFFECTS.items():
        if any(one.effect == effect for one in found):
            out.print(f"{effect}: {meaning}")
