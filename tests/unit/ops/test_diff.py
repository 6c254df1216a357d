"""What `neverstale diff` says: a table of changes and their effects."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neverstale.catalog import Catalog, Resource
from neverstale.ops import cli
from neverstale.ops.diff import EFFECTS, Redeclared, differences
from tests.support.smallest import smallest_of_each_kind

LIST = {"by": ["origin"], "sort": ["_id"]}
COUNTER = {"by": ["origin"]}
FLIGHTS: dict[str, Any] = {
    "key_type": "string",
    "fields": {"origin": "string", "gate": "string"},
    "lists": {"departures": LIST},
    "counters": {"per_origin": COUNTER},
}


def catalog(database: str = "nyc", **flights: Any) -> Catalog:
    return Catalog.model_validate({"database": database, "resources": {"flights": FLIGHTS | flights}})


def said(new: Catalog) -> dict[str, tuple[str, str]]:
    return {one.of: (one.change, one.effect) for one in differences(catalog(), new)}


REBUILT = ("as before, in another generation", "other")


@pytest.mark.parametrize(
    ("flights", "expected"),
    [
        ({}, {}),
        ({"ttl_seconds": 5}, {"flights.ttl_seconds": ("3600 → 5", "other")}),
        ({"on_change": "refresh"}, {"flights.on_change": ("auto → refresh", "other")}),
        ({"warm": {"from": "lists.departures"}}, {"flights.warm": (str, "other")}),
        (
            {"fields": {"origin": "string", "gate": "any"}},
            {"flights.fields": ("other types: gate", "other")},
        ),
        (
            {"fields": {"origin": "string"}},
            {
                "flights.fields": ("- gate", "cold"),
                "flights.lists.departures": ("declared otherwise", "built"),
                "flights.counters.per_origin": REBUILT,
            },
        ),
        (
            {"fields": None},
            {
                "flights.fields": ("origin, gate → all", "cold"),
                "flights.lists.departures": ("declared otherwise", "built"),
                "flights.counters.per_origin": REBUILT,
            },
        ),
        (
            {"collection": "archive"},
            {
                "flights.collection": ("flights → archive", "cold"),
                "flights.lists.departures": ("declared otherwise", "built"),
                "flights.counters.per_origin": ("declared otherwise", "built"),
            },
        ),
        (
            {"counters": {}},
            {"flights.counters.per_origin": ("taken out", "gone"), "flights.lists.departures": REBUILT},
        ),
        (
            {"rankings": {"late": {"score": "delay"}}},
            {
                "flights.rankings.late": ("added", "built"),
                "flights.lists.departures": REBUILT,
                "flights.counters.per_origin": REBUILT,
            },
        ),
    ],
)
def test_each_change_has_its_effect(flights: dict[str, Any], expected: dict[str, Any]) -> None:
    found = said(catalog(**flights))
    assert found.keys() == expected.keys()
    for of, (change, effect) in expected.items():
        assert found[of][1] == effect
        assert change is str or found[of][0] == change


def test_a_resource_comes_or_goes_as_a_whole() -> None:
    other = Catalog.model_validate({"database": "nyc", "resources": {"airlines": {"key_type": "string"}}})
    assert differences(catalog(), other) == [
        Redeclared("airlines", "added", "new"),
        Redeclared("flights", "taken out", "gone"),
    ]


def test_another_database_makes_everything_cold() -> None:
    assert differences(catalog(), catalog("lax"))[0] == Redeclared("database", "nyc → lax", "cold")


def test_cold_is_said_of_exactly_what_entries_show() -> None:
    """For each thing that a resource declares, another value is cold if and only if no process serves the other's."""
    others: dict[str, Any] = smallest_of_each_kind() | {
        "collection": "archive",
        "key_type": "int",
        "fields": {"gate": "string"},
        "ttl_seconds": 1,
        "absent_ttl_seconds": 1,
        "on_change": "invalidate",
        "stale_while_revalidate_seconds": 1,
        "expires_field": "ends",
        "shared_max_age_seconds": 5,
        "export": False,
        "most_read": False,
        "max_groups": 1,
        "warm": {"most_read": 5},
        "refs": {"hub": {"to": "flights"}},
        "lookups": ["gate"],
        "public": True,
        "tenant": {"field": "gate", "claim": "org"},
        "lists": {},
        "counters": {},
        "rankings": {"late": {"score": "delay"}},
    }
    missing = set(Resource.model_fields) - {"name"} - set(others)
    before = catalog(fields=None, lists={}, counters={})
    for name, value in others.items():
        after = catalog(**{"fields": None, "lists": {}, "counters": {}, name: value})
        cold = any(one.effect == "cold" for one in differences(before, after))
        assert cold is (before.resources["flights"].shows != after.resources["flights"].shows), name
    assert not missing, f"say of these whether entries depend on them, here, in Resource.shows and in diff: {missing}"


def test_the_command_prints_what_changes_and_what_that_means(tmp_path: Path) -> None:
    def put(name: str, fields: str) -> str:
        path = tmp_path / name
        path.write_text(f'database = "nyc"\n[resources.flights]\nkey_type = "string"\nfields = {{ {fields} }}\n')
        return str(path)

    old, new = put("old.toml", 'a = "int", b = "int"'), put("new.toml", 'a = "int"')
    told = CliRunner().invoke(cli.app, ["diff", new, "--catalog", old])
    assert told.exit_code == 0
    assert "flights.fields" in told.output and "- b" in told.output and EFFECTS["cold"] in told.output
    as_json = CliRunner().invoke(cli.app, ["diff", new, "--catalog", old, "--json"])
    assert json.loads(as_json.output)["differences"] == [{"of": "flights.fields", "change": "- b", "effect": "cold"}]
    assert "the same" in CliRunner().invoke(cli.app, ["diff", old, "--catalog", old]).output


def test_what_moves_to_another_watcher_group_is_cold_and_built_there() -> None:
    watchers = {"board": {"collections": ["flights"]}}
    moved = Catalog.model_validate({"database": "nyc", "resources": {"flights": FLIGHTS}, "watchers": watchers})
    assert said(moved) == {
        "flights.watcher_group": ("default → board", "cold"),
        "flights.lists.departures": ("declared otherwise", "built"),
        "flights.counters.per_origin": ("declared otherwise", "built"),
    }
