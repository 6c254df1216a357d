"""All kinds, by the names that the catalog has for them. The module of a kind is found by that name."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from neverstale.catalog.declarations import KIND_NAMES
from neverstale.derived.kinds.kind import DerivedKind


def _kind(name: str) -> DerivedKind[Any]:
    kind = import_module(f"neverstale.derived.kinds.{name}").KIND
    assert isinstance(kind, DerivedKind)
    return kind


KINDS: Final[Mapping[str, DerivedKind[Any]]] = {name: _kind(name) for name in KIND_NAMES}
