"""The catalog file: what it means, and what is said about a wrong one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from neverstale.catalog import Catalog, Resource
from neverstale.errors import Misconfigured
from tests.support.project import ROOT

Problems = Callable[[str | bytes], list[str]]


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """Load a text that must be refused; answer its problems without the file's name."""

    def refused(text: str | bytes) -> list[str]:
        path = tmp_path / "catalog.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(Misconfigured) as caught:
            Catalog.load(path)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{path}: ") for line in lines)
        return [line.removeprefix(f"{path}: ") for line in lines]

    return refused


def resource(extra: str, name: str = "flights") -> str:
    return f'database = "nyc"\n[resources.{name}]\nkey_type = "string"\n{extra}\n'


def load(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "catalog.toml"
    path.write_text(text, encoding="utf-8")
    return Catalog.load(path)


def test_a_resource_needs_no_more_than_a_key_type(tmp_path: Path) -> None:
    flights = load(tmp_path, resource("")).resources["flights"]
    assert (
        flights.model_dump()
        == Resource(
            name="flights",
            collection="flights",
            key_type="string",
            fields=None,
            ttl_seconds=3600,
            absent_ttl_seconds=30,
            on_change="auto",
        ).model_dump()
    )


def test_the_catalog_in_the_repository_is_valid() -> None:
    catalog = Catalog.load(ROOT / "catalog.toml")
    assert catalog.database == "nyc"
    assert catalog.collections == ("airlines", "airports", "flights")


def test_several_resources_may_share_a_collection(tmp_path: Path) -> None:
    text = resource("") + '[resources.board]\nkey_type = "string"\ncollection = "flights"\n'
    catalog = load(tmp_path, text)
    assert catalog.collections == ("flights",)
    assert [r.name for r in catalog.of_collection("flights")] == ["flights", "board"]
    assert catalog.of_collection("trains") == ()


def test_a_catalog_cannot_be_changed(tmp_path: Path) -> None:
    catalog = load(tmp_path, resource(""))
    with pytest.raises(ValidationError, match="frozen"):
        catalog.resources["flights"].ttl_seconds = 1  # type: ignore[misc]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + resource("")).database == "nyc"


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nothing\.toml: there is no such .* --catalog or NEVERSTALE_CATALOG"):
        Catalog.load(tmp_path / "nothing.toml")


def test_a_folder_is_not_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        Catalog.load(tmp_path)


def test_broken_toml_names_the_line(problems: Problems) -> None:
    [problem] = problems('database = "nyc"\n[resources\n')
    assert "not valid TOML" in problem and "line 2" in problem


def test_other_encodings_are_refused_by_name(problems: Problems) -> None:
    assert problems('database = "é"'.encode("latin-1")) == ["is not UTF-8 at byte 12; save it as UTF-8"]


def test_all_problems_are_listed_together(problems: Problems) -> None:
    found = problems(
        'databas = "nyc"\n[resources.flights]\nkey_typ = "string"\n[resources.gates]\n'
        'key_type = "strng"\nttl_seconds = 0\n'
    )
    assert found == [
        'database: is missing; add it, e.g. database = "shop"',
        'resources.flights.key_type: is missing; add it, e.g. key_type = "string"',
        "resources.flights.key_typ: is not a known name; did you mean key_type?",
        'resources.gates.key_type: "strng" is not one of string, int, objectid, uuid; did you mean string?',
        "resources.gates.ttl_seconds: 0 is out of range; use at least 1",
        "databas: is not a known name; did you mean database?",
    ]


def test_an_empty_file_lacks_both_parts(problems: Problems) -> None:
    assert problems("") == [
        'database: is missing; add it, e.g. database = "shop"',
        "resources: is missing; add it, e.g. [resources.flights]",
    ]


def test_no_resource_at_all_is_a_mistake(problems: Problems) -> None:
    assert problems('database = "nyc"\n[resources]\n') == [
        "resources: declares no resource; add a table, e.g. [resources.flights]"
    ]


def test_a_resource_is_a_table(problems: Problems) -> None:
    assert problems('database = "nyc"\n[resources]\nflights = 3\n') == [
        "resources.flights: 3 is not a table; use a table"
    ]


@pytest.mark.parametrize("name", ["Flights", "1st", "a.b", "flüge", "a/b", "x" * 64])
def test_names_that_do_not_fit_into_a_url_are_refused(problems: Problems, name: str) -> None:
    [problem] = problems(resource("", f'"{name}"'))
    assert f"{name!r} is not a resource name" in problem


def test_a_resource_must_not_hide_the_route_of_freshness(problems: Problems) -> None:
    assert problems(resource("", "freshness")) == [
        "resources.freshness: the name freshness is taken by /v1/freshness; choose another name"
    ]


def test_a_resource_is_named_by_its_table_only(problems: Problems) -> None:
    assert problems(resource('name = "other"\nttl_seconds = 0')) == [
        "resources.flights.name: a resource is named by its table; remove it",
        "resources.flights.ttl_seconds: 0 is out of range; use at least 1",
    ]


@pytest.mark.parametrize("collection", ["system.users", "neverstale.control", "", "a$b", ".a", "a\\u0000b"])
def test_collections_that_cannot_be_watched_are_refused(problems: Problems, collection: str) -> None:
    [problem] = problems(resource(f'collection = "{collection}"'))
    assert problem.startswith("resources.flights.collection: ")


@pytest.mark.parametrize("database", ["", "a b", "a.b", "a/b", "x" * 64, "admin", "local", "config"])
def test_databases_that_cannot_be_watched_are_refused(problems: Problems, database: str) -> None:
    [problem] = problems(resource("").replace("nyc", database))
    assert problem.startswith("database: ")


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("ttl_seconds = 0", "use at least 1"),
        ("ttl_seconds = 2592001", "use at most 2592000"),
        ("ttl_seconds = 1.5", "use a whole number"),
        ('absent_ttl_seconds = "soon"', "use a whole number"),
    ],
)
def test_lives_are_whole_seconds_up_to_thirty_days(problems: Problems, line: str, remedy: str) -> None:
    [problem] = problems(resource(line))
    assert problem.startswith(f"resources.flights.{line.split()[0]}: ") and problem.endswith(remedy)


def test_a_day_of_thirty_is_still_allowed(tmp_path: Path) -> None:
    assert load(tmp_path, resource("ttl_seconds = 2592000")).resources["flights"].ttl_seconds == 2592000


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ("{}", "fields"),
        ('{ _id = "string" }', "fields"),
        ('{ "a.b" = "int" }', "fields"),
        ('{ "$where" = "int" }', "fields"),
        ('{ origin = "text" }', "fields.origin"),
        ('{ address.city = "string" }', "fields.address"),
    ],
)
def test_fields_are_top_level_names_with_known_types(problems: Problems, fields: str, place: str) -> None:
    [problem] = problems(resource(f"fields = {fields}"))
    assert problem.startswith(f"resources.flights.{place}: ")


@pytest.mark.parametrize("declared", ['expires_field = "ends"', 'fields = { ends = "date" }\nexpires_field = "ends"'])
def test_a_document_may_say_when_it_ends(tmp_path: Path, declared: str) -> None:
    assert load(tmp_path, resource(declared)).resources["flights"].expires_field == "ends"


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (
            'fields = { ends = "int" }\nexpires_field = "ends"',
            "ends is not among fields as a date; add ends",
        ),
        ('expires_field = "a.b"', "'a.b' is not the name of a top-level field; name a field of dates"),
    ],
)
def test_expires_field_is_a_date_that_is_read(problems: Problems, declared: str, problem: str) -> None:
    [found] = problems(resource(declared))
    assert found.startswith(f"resources.flights.expires_field: {problem}")


LISTED = "[resources.flights.lists.departures]\ncached_pages = 2\n"


@pytest.mark.parametrize("warm", ['{ from = "lists.departures", pages = 2, most_read = 10 }', "{ most_read = 1000 }"])
def test_first_pages_and_the_most_read_may_be_warmed(tmp_path: Path, warm: str) -> None:
    assert load(tmp_path, resource(f"warm = {warm}\n{LISTED}")).resources["flights"].warm is not None


@pytest.mark.parametrize(
    ("warm", "problem"),
    [
        ("{}", "warm: names nothing to read; name a list"),
        ('{ from = "departures" }', "warm.from: 'departures' is not a list; name one"),
        ('{ from = "lists.arrivals" }', "warm.from: there is no lists.arrivals; declare it, or name one of"),
        (
            '{ from = "lists.departures", pages = 3 }',
            "warm.pages: 3 is more than lists.departures keeps; use",
        ),
        ("{ most_read = -1 }", "warm.most_read: "),
        ("{ most_read = 1, page = 1 }", "warm.page: "),
    ],
)
def test_warm_names_what_the_cache_keeps(problems: Problems, warm: str, problem: str) -> None:
    [found] = problems(resource(f"warm = {warm}\n{LISTED}"))
    assert found.startswith(f"resources.flights.{problem}")


REFS = """
database = "d"
[resources.flights]
key_type = "string"
fields = { carrier = "string", plan = "object", hops = "array", status = "bool" }
[resources.airlines]
key_type = "string"
[resources.gates]
key_type = "int"
"""


@pytest.mark.parametrize(
    ("name", "declared", "problem"),
    [
        ("carrier", 'to = "airline"', "carrier: there is no resource 'airline'; did you mean airlines?"),
        ("origin", 'to = "airlines"', 'origin: origin is not among fields, so it is not read; add origin = "string"'),
        (
            "at",
            'to = "gates", field = "spot.gate"',
            'at: spot is not among fields, so it is not read; add spot = "object"',
        ),
        (
            "status",
            'to = "airlines"',
            'status: status is declared as bool; declare it as the key is, e.g. status = "string"',
        ),
        (
            "carrier",
            'to = "gates"',
            'carrier: carrier is declared as string; declare it as the key is, e.g. carrier = "int"',
        ),
        (
            "at",
            'to = "gates", field = "carrier.x"',
            "at: carrier is declared as string; declare it as one that has fields",
        ),
        ("carrier", 'too = "airlines"', "carrier.to: is missing; add it, e.g. to = "),
        ("_id", 'to = "airlines"', "refs: _id would replace the key of the document itself; refer from another"),
        ('"plan.gate"', 'to = "gates"', "refs: 'plan.gate' is not the name of a reference; use up to 63 letters"),
        ("gate", 'to = "gates", field = "plan..gate"', "refs: 'plan..gate' is not a field or a path of fields"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_field_and_the_remedy(
    problems: Problems, name: str, declared: str, problem: str
) -> None:
    found = problems(REFS + f"[resources.flights.refs]\n{name} = {{ {declared} }}\n")
    assert any(line.startswith(f"resources.flights.refs.{problem}".replace("refs.refs", "refs")) for line in found), (
        found
    )


def test_all_references_that_lead_nowhere_are_listed_together(problems: Problems) -> None:
    refs = '[resources.flights.refs]\ncarrier = { to = "x" }\ngate = { to = "gates" }\n'
    found = problems(REFS + refs + '[resources.gates.refs.near]\nto = "y"\n')
    assert [line.partition(":")[0] for line in found] == [
        "resources.flights.refs.carrier",
        "resources.flights.refs.gate",
        "resources.gates.refs.near",
    ]


def test_two_references_cannot_lie_in_the_same_field(problems: Problems) -> None:
    refs = '[resources.flights.refs]\nplan = { to = "gates" }\ngate = { to = "gates", field = "plan.gate" }\n'
    assert problems(REFS + refs) == ["resources.flights.refs: gate and plan lie in the same field; keep one of them"]


def test_references_may_lead_in_circles_through_objects_and_arrays(tmp_path: Path) -> None:
    refs = '[resources.flights.refs]\nhops = { to = "gates" }\nnext = { to = "flights", field = "plan.next" }\n'
    catalog = load(tmp_path, REFS + refs + '[resources.gates.refs.flight]\nto = "flights"\n')
    assert catalog.resources["flights"].refs["next"].to == "flights"
