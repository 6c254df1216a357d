"""What the operator named on the command line, found in the catalog; `Misconfigured` where there is no such thing."""

from collections.abc import Sequence
from pathlib import Path

from neverstale.catalog import Catalog, Resource
from neverstale.errors import Misconfigured
from neverstale.keys import KeyValue, parse
from neverstale.misconfiguration import did_you_mean, shown, together


def resource_named(catalog: Catalog, name: str, file: Path) -> Resource:
    found = catalog.resources.get(name)
    if found is None:
        raise Misconfigured("RESOURCE", f"{name} is not declared in {file}", did_you_mean(name, catalog.resources))
    return found


def keys_named(resource: Resource, texts: Sequence[str]) -> list[KeyValue]:
    """Keys as they stand in URLs. All that cannot be read are named."""
    keys, problems = [], []
    for text in texts:
        try:
            keys.append(parse(text, resource.key_type))
        except ValueError as error:
            remedy = f"resources.{resource.name}.key_type says {resource.key_type}"
            problems.append(Misconfigured("KEY", f"{shown(text)}: {error}", remedy))
    if problems:
        raise together(problems)
    return keys


def declarations_named(resource: Resource, name: str | None, file: Path) -> tuple[str, ...]:
    """`counters.by_status` of `by_status`; all where nothing is named."""
    declared = tuple(resource.derived.digests())
    if not declared:
        problem = f"{resource.name} declares no list, counter, ranking or look-up in {file}"
        raise Misconfigured("RESOURCE", problem, "declare one, or use `neverstale resync` for its documents")
    names = [each.partition(".")[2] for each in declared]
    if name is None:
        return declared
    if name not in names:
        problem = f"{resource.name} declares no list, counter, ranking or look-up {name}"
        raise Misconfigured("NAME", problem, did_you_mean(name, names))
    return tuple(each for each, own in zip(declared, names, strict=True) if own == name)
