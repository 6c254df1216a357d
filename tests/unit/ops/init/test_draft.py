"""The files that `neverstale init` writes, whatever a database looks like."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog import Catalog
from neverstale.catalog.lookups import is_lookup
from neverstale.ops.init import draft
from neverstale.ops.init.survey import CollectionSurvey
from neverstale.settings.sources import load

TYPES = [*draft.FIELD_TYPES, "null", "regex", "javascript", "symbol", "timestamp", "minKey", "dbPointer", "undefined"]

names = st.text(min_size=1, max_size=30).filter(
    lambda name: not name.startswith(("system.", "neverstale.", ".")) and not set(name) & set("$\0")
)
counts = st.dictionaries(st.sampled_from(TYPES), st.integers(1, 9), min_size=1, max_size=3)
surveys = st.builds(
    CollectionSurvey,
    name=names,
    why_not=st.none(),
    documents=st.integers(0, 10**9),
    sampled=st.just(9),
    key_types=st.dictionaries(st.sampled_from([*draft.KEY_TYPES, "object", "double"]), st.integers(1, 9), min_size=1),
    fields=st.dictionaries(st.text(max_size=12), counts, max_size=4),
    indexes=st.lists(
        st.text(max_size=20) | st.text(max_size=12).map(lambda path: f"{path} (unique)"), max_size=2
    ).map(tuple),
)


@given(st.lists(surveys, min_size=1, max_size=6, unique_by=lambda one: one.name))
def test_a_catalog_of_any_collections_can_be_read_and_serves_those_that_can_be(
    tmp_path_factory: pytest.TempPathFactory, surveyed: list[CollectionSurvey]
) -> None:
    served = [one for one in surveyed if draft.reason_against(one) is None]
    text = draft.catalog("shop", surveyed)
    if served:
        path = tmp_path_factory.getbasetemp() / "catalog.toml"
        path.write_text(text, encoding="utf-8")
        found = Catalog.load(path)
        assert sorted(one.collection for one in found.resources.values()) == sorted(one.name for one in served)
        for one in found.resources.values():
            survey = next(each for each in served if each.name == one.collection)
            assert one.key_type == draft.key_type(survey.key_types)
    else:
        assert tomllib.loads(text) == {"database": "shop"}


@given(surveys)
def test_what_stands_in_comments_is_read_when_the_signs_are_taken_away(one: CollectionSurvey) -> None:
    lines = draft.catalog("shop", [one]).split("\n")
    at = next((number for number, line in enumerate(lines) if line.endswith(".fields]")), None)
    if at is None:
        return
    block = []
    for line in lines[at:]:
        if line.startswith("# Pages by"):
            break
        block.append(line.removeprefix("# "))
    (fields,) = [table["fields"] for table in tomllib.loads("\n".join(block))["resources"].values()]
    assert set(fields) == set(one.fields)
    assert set(fields.values()) <= {*draft.FIELD_TYPES.values(), "any"}


@given(surveys)
def test_a_look_up_that_is_proposed_can_be_declared(one: CollectionSurvey) -> None:
    types = {path: draft.field_type(kinds) for path, kinds in one.fields.items()}
    assert all(is_lookup(path, types) for path in draft.unique_fields(one))


@pytest.mark.parametrize(
    ("index", "proposed"),
    [
        ("email (unique)", ["email"]),
        ("address.zip descending (unique, sparse)", ["address.zip"]),
        ("email", []),
        ("email, tenant (unique)", []),
        ("email (unique, partial)", []),
        ("email (unique, collation)", []),
        ("e mail (unique)", []),
        ("_id (unique)", []),
        ("things (unique)", []),
    ],
)
def test_look_ups_are_proposed_where_an_index_keeps_one_field_unique(index: str, proposed: list[str]) -> None:
    one = CollectionSurvey("users", None, 9, 9, {"string": 9}, {"things": {"object": 9}}, (index,))
    assert draft.unique_fields(one) == proposed
    assert (f"# lookups = {json.dumps(proposed)}" in draft.catalog("shop", [one])) == bool(proposed)


@pytest.mark.parametrize(
    ("types", "served"),
    [
        ({"string": 3}, "string"),
        ({"int": 1, "long": 1, "string": 1}, "int"),
        ({"objectId": 5, "string": 1}, "objectid"),
        ({"uuid": 1}, "uuid"),
        ({"binData": 9}, None),
        ({"double": 2, "object": 1}, None),
        ({}, None),
    ],
)
def test_most_keys_decide_the_type_of_keys(types: dict[str, int], served: str | None) -> None:
    assert draft.key_type(types) == served


@pytest.mark.parametrize(
    ("types", "declared"),
    [
        ({"string": 3, "null": 1}, "string"),
        ({"int": 1, "long": 1}, "long"),
        ({"int": 1, "string": 1}, "any"),
        ({"regex": 1}, "any"),
        ({"null": 4}, "any"),
        ({"uuid": 1, "binData": 1}, "any"),
    ],
)
def test_a_field_of_several_types_is_any(types: dict[str, int], declared: str) -> None:
    assert draft.field_type(types) == declared


def test_names_fit_into_urls_and_differ() -> None:
    made = draft.resource_names(["Orders", "orders", "ORDERS", "2fast", "freshness", "ä", "a" * 200, "a" * 201])
    assert len(set(made.values())) == len(made)
    assert made["Orders"] == "orders" and made["2fast"] == "c-2fast" and made["freshness"] == "freshness-2"


def test_the_settings_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "neverstale.toml"
    path.write_text(draft.settings("catalog.toml"))
    settings, origins = load({}, path)
    assert settings.kafka.partitions == 4
    assert "mongodb.uri" in origins and "password" not in path.read_text().replace("a password in it", "")


def test_each_role_may_do_what_the_docs_say_and_no_more() -> None:
    told = draft.roles("shop", ["orders"])
    assert told.count("createRole") == told.count("createUser") == 4
    assert '{ db: "shop", collection: "" }, actions: ["find", "changeStream", "listCollections"]' in told
    assert "anyAction" not in told and 'collection: "orders" }, actions: ["find"]' in told
