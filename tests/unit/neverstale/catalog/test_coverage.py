"""What one catalog covers of another one."""

from typing import Any

import pytest

from neverstale.catalog import Catalog
from neverstale.catalog.coverage import Coverage, lacks, needs_of

LISTS: dict[str, Any] = {"lists": {"all": {}}}


def catalog(database: str = "nyc", **resources: Any) -> Catalog:
    declared = {name: {"key_type": "string", **table} for name, table in resources.items()}
    return Catalog.model_validate({"database": database, "resources": declared})


@pytest.mark.parametrize(
    ("theirs", "ours", "missing"),
    [
        ({"r": {}}, {"r": {}}, set()),
        ({"r": {"ttl_seconds": 5}}, {"r": {"on_change": "refresh"}}, set()),
        ({"r": {"fields": {"a": "int", "b": "int"}}}, {"r": {"fields": {"a": "any"}}}, set()),
        ({"r": {}}, {"r": {"fields": {"a": "int"}}}, set()),
        ({"r": {}, "s": {}}, {"r": {}}, set()),
        ({"r": LISTS}, {"r": {}}, set()),
        ({"r": {"fields": {"a": "int"}}}, {"r": {"fields": {"a": "int", "b": "int"}}}, {"r", "r."}),
        ({"r": {"fields": {"a": "int"}}}, {"r": {}}, {"r", "r."}),
        ({"r": {}}, {"r": {"collection": "c"}}, {"r", "r."}),
        ({"r": {}}, {"r": {"key_type": "int"}}, {"r", "r."}),
        ({"r": {}}, {"r": {}, "s": {}}, {"s", "s."}),
        ({"r": {}}, {"r": LISTS}, {"r."}),
    ],
)
def test_a_catalog_covers_what_it_corrects(theirs: Any, ours: Any, missing: set[str]) -> None:
    assert lacks(catalog(**ours), Coverage.of(catalog(**theirs), None).text) == missing


def test_what_no_watcher_watches_is_not_covered() -> None:
    both = catalog(r={}, s={"collection": "c"})
    assert lacks(both, Coverage.of(both, ("r",)).text) == {"s", "s."}
    assert lacks(both, Coverage.of(both, ("c", "r")).text) == set()


@pytest.mark.parametrize("text", [None, "", "[]", '{"r": 1}', '{"r": ["nyc", "r", "string"]}', "{"])
def test_what_cannot_be_read_covers_nothing(text: str | None) -> None:
    assert lacks(catalog(r={}), text) == {"r", "r."}


def test_another_database_covers_nothing() -> None:
    assert lacks(catalog(r={}), Coverage.of(catalog("lax", r={}), None).text) == {"r", "r."}


def test_a_source_needs_its_resource_and_what_is_derived_only_if_it_is() -> None:
    assert needs_of("flights") == {"flights"}
    assert needs_of("flights.lists.departures") == {"flights", "flights."}
