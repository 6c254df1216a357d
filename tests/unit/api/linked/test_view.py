"""What `expand` and `fields` may say, what they mean, and what is said about wrong ones."""

from typing import Any

import pytest

from neverstale.api.linked.parameters import taken_out
from neverstale.api.linked.view import View, Views, names_of
from neverstale.api.web.problems import Problem
from neverstale.catalog import Catalog

CATALOG = Catalog.model_validate(
    {
        "database": "d",
        "resources": {
            "flights": {
                "key_type": "string",
                "fields": {"carrier": "string", "origin": "string", "plan": "object", "a,b": "string"},
                "refs": {
                    "carrier": {"to": "airlines"},
                    "origin": {"to": "airports"},
                    "alternates": {"to": "airports", "field": "plan.alternates"},
                },
            },
            "airlines": {"key_type": "string", "refs": {"hub": {"to": "airports"}}},
            "airports": {
                "key_type": "string",
                "fields": {"name": "string", "country": "int", "where": "object"},
                "refs": {"country": {"to": "countries"}},
            },
            "countries": {"key_type": "int", "refs": {"leader": {"to": "countries"}}},
        },
    }
)
FLIGHTS = Views(CATALOG.resources["flights"], CATALOG.resources)


def shown(view: View) -> Any:
    """Fields, and what is followed, as text and tables."""
    followed = {".".join(each.path): shown(each.view) for each in view.followed}
    return view.selection, {"to": view.resource.name, **followed}


WHOLE: Any = (None, {"to": "airports"})


@pytest.mark.parametrize(
    ("query", "selection", "followed"),
    [
        ("", None, {}),
        ("expand=origin", None, {"origin": WHOLE}),
        ("expand=origin&expand=origin", None, {"origin": WHOLE}),
        ("expand=alternates", None, {"plan.alternates": WHOLE}),
        ("expand=origin,carrier", None, {"origin": WHOLE, "carrier": (None, {"to": "airlines"})}),
        ("expand=origin%2Ccarrier", None, {"origin": WHOLE, "carrier": (None, {"to": "airlines"})}),
        ("expand=carrier.hub", None, {"carrier": (None, {"to": "airlines", "hub": WHOLE})}),
        ("expand=carrier.hub,carrier", None, {"carrier": (None, {"to": "airlines", "hub": WHOLE})}),
        ("fields=plan", {"_id": None, "plan": None}, {}),
        ("fields=_id", {"_id": None}, {}),
        ("fields=plan.a,plan.b.c", {"_id": None, "plan": {"a": None, "b": {"c": None}}}, {}),
        ("fields=plan.a&fields=plan", {"_id": None, "plan": None}, {}),
        ("fields=plan,plan.a", {"_id": None, "plan": None}, {}),
        ("expand=origin&fields=carrier", {"_id": None, "carrier": None}, {}),
        ("expand=origin&fields=origin", {"_id": None, "origin": None}, {"origin": WHOLE}),
        (
            "expand=origin&fields=origin.name",
            {"_id": None, "origin": None},
            {"origin": ({"_id": None, "name": None}, {"to": "airports"})},
        ),
        ("expand=origin&fields=origin.name,origin", {"_id": None, "origin": None}, {"origin": WHOLE}),
        ("expand=origin&fields=origin,origin.name", {"_id": None, "origin": None}, {"origin": WHOLE}),
        ("expand=alternates&fields=plan", {"_id": None, "plan": None}, {"plan.alternates": WHOLE}),
        ("expand=alternates&fields=plan.x", {"_id": None, "plan": {"x": None}}, {}),
        (
            "expand=alternates.country&fields=plan.alternates.country.name,plan.alternates.name",
            {"_id": None, "plan": {"alternates": None}},
            {
                "plan.alternates": (
                    {"_id": None, "country": None, "name": None},
                    {"to": "airports", "country": ({"_id": None, "name": None}, {"to": "countries"})},
                )
            },
        ),
    ],
)
def test_a_view_shows_what_was_asked_for(query: str, selection: Any, followed: dict[str, Any]) -> None:
    view, rest = taken_out(query.encode(), FLIGHTS)
    assert rest == b""
    assert shown(view) == (selection, {"to": "flights", **followed})
    assert view.is_whole == (query == "")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("expand=gate", "expand: flights has no reference 'gate'; references: carrier, origin, alternates"),
        ("expand=carrier.country", "airlines has no reference 'country'; references: hub"),
        ("expand=carrier.hub.country.leader", "deeper than 3 references"),
        ("expand=", "expand: names no reference"),
        ("expand=carrier,,origin", "nothing between two commas"),
        ("expand=.carrier", "no name"),
        ("expand=carrier%zz", "a % must be followed by two hex digits"),
        ("expand=plan.alternates", "flights has no reference 'plan'"),
        ("expand=" + ",".join(["carrier"] * 101), "names more than 100"),
        ("fields=", "fields: names no field"),
        ("fields=gate", "flights has no field 'gate'; fields: _id, carrier, origin, plan, a,b"),
        ("fields=plan..a", "no name"),
        ("fields=carrier.name", "carrier is the key of a document of airlines; to see inside, add expand=carrier"),
        ("fields=plan.alternates.name", "add expand=alternates"),
        ("fields=_id.x", "_id is declared as string and has no fields inside"),
        ("expand=origin&fields=origin.gate", "airports has no field 'gate'"),
        ("expand=origin&fields=origin.name.x", "name is declared as string and has no fields inside"),
        ("fields=" + "x" * 2000, "x" * 1000 + "…"),
    ],
)
def test_a_wrong_view_is_refused_with_what_to_do(query: str, sentence: str) -> None:
    with pytest.raises(Problem) as refused:
        taken_out(query.encode(), FLIGHTS)
    assert refused.value.status == 400
    assert sentence in refused.value.members["detail"]
    assert refused.value.members["parameter"] in ("expand", "fields")


def test_a_resource_without_references_says_where_they_are_declared() -> None:
    views = Views(CATALOG.resources["countries"].model_copy(update={"refs": {}}), CATALOG.resources)
    with pytest.raises(Problem, match=r"the catalog declares them as resources\.countries\.refs"):
        views.of(["x"], None)


def test_all_else_that_a_query_says_is_left_to_others() -> None:
    view, rest = taken_out(b"cursor=a%2Fb&expand=carrier&&day:int=3&expand:string=x&fields=plan", FLIGHTS)
    assert rest == b"cursor=a%2Fb&day:int=3&expand:string=x"
    assert not view.is_whole


def test_all_resources_that_a_view_reads_are_known_before_it_is_read() -> None:
    view, _ = taken_out(b"expand=carrier.hub.country,origin", FLIGHTS)
    assert view.resources == {"flights", "airlines", "airports", "countries"}
    assert FLIGHTS.whole.resources == {"flights"}
    narrow, _ = taken_out(b"expand=carrier.hub.country,origin&fields=origin.name", FLIGHTS)
    assert narrow.resources == {"flights", "airports"}


def test_a_cycle_of_references_can_be_named_up_to_its_depth() -> None:
    assert list(names_of(CATALOG.resources["countries"], CATALOG.resources)) == [
        "leader",
        "leader.leader",
        "leader.leader.leader",
    ]
