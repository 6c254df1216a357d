"""Keys in paths and queries, as they were sent."""

from typing import Any, Literal
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.web.paths import UndecodedPaths, key_of, keys_of
from neverstale.api.web.problems import Problem
from neverstale.catalog import Resource

THINGS = Resource(name="things", key_type="string")  # type: ignore[call-arg]
NUMBERS = Resource(name="numbers", key_type="int")  # type: ignore[call-arg]

Key = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(Key)
def test_a_percent_encoded_key_is_read_back(key: str) -> None:
    assert key_of(quote(key, safe=""), THINGS) == key


@given(st.lists(Key, min_size=1, max_size=20))
def test_a_list_of_percent_encoded_keys_is_read_back(keys: list[str]) -> None:
    query = "keys=" + ",".join(quote(key, safe="") for key in keys)
    assert keys_of(query.encode(), THINGS) == keys


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_path_segment_leads_to_anything_but_a_key_or_a_problem(segment: str) -> None:
    try:
        assert key_of(segment, THINGS)
    except Problem as problem:
        assert problem.status == 400


@given(st.binary(max_size=60))
def test_no_query_leads_to_anything_but_keys_or_a_problem(query: bytes) -> None:
    try:
        assert keys_of(query, THINGS)
    except Problem as problem:
        assert problem.status == 400


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        (b"keys=a,b", ["a", "b"]),
        (b"keys=a%2Cb,c", ["a,b", "c"]),
        (b"keys=a&keys=b,c", ["a", "b", "c"]),
        (b"keys=a+b,a%2Bb,a%20b", ["a b", "a+b", "a b"]),
        (b"keys=a%26b%3Dc", ["a&b=c"]),
        (b"%6beys=a", ["a"]),
        (b"keys=a&", ["a"]),
    ],
)
def test_commas_and_repeated_parameters_separate_keys(query: bytes, keys: list[str]) -> None:
    assert keys_of(query, THINGS) == keys


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        (b"key=a", "key"),
        (b"k+eys=a", "k eys"),
        (b"keys=a&=b", ""),
        (b"keys=a&%zz=b", "%zz"),
        (b"%ff=b", "%ff"),
        (b"keys=%", "keys"),
        (b"keys=a,%ff", "keys"),
        (b"keys=a,,b", "keys"),
        (b"keys=", "keys"),
        (b"", "keys"),
        (b"keys=a&" + b"x" * 300 + b"=1", "x" * 300),
    ],
)
def test_what_makes_no_sense_is_named(query: bytes, parameter: str) -> None:
    with pytest.raises(Problem) as problem:
        keys_of(query, THINGS)
    assert (problem.value.status, problem.value.members["parameter"]) == (400, parameter)


def test_keys_are_of_the_resources_type() -> None:
    assert keys_of(b"keys=1,-2", NUMBERS) == [1, -2]


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/v1/things/a/b", "raw_path": b"/v1/things/a%2Fb"}, "/v1/things/a%2Fb"),
        ({"path": "/v1/things/é", "raw_path": "/v1/things/é".encode()}, "/v1/things/Ã©"),
        ({"path": "/v1/things/%", "raw_path": None}, "/v1/things/%25"),
        ({"path": "/docs/a b", "raw_path": b"/docs/a%20b"}, "/docs/a b"),
        ({"path": "/v1/things/a", "raw_path": b"/%761/%74hings/%61"}, "/v1/things/%61"),
        ({"path": "/v1/things/-", "raw_path": b"/v1/things/%2D"}, "/v1/things/%2D"),
        (
            {"path": "/v1/t/-/lists/down", "raw_path": b"/v1/things/%2d/l%69sts/%64own"},
            "/v1/things/-/lists/down",
        ),
        ({"path": "/v1/things/-/export", "raw_path": b"/v1/things/-/ex%70ort"}, "/v1/things/-/export"),
        (
            {"path": "/v1/things/-/rankings/top/top", "raw_path": b"/v1/things/-/ranking%73/t%6Fp/t%6Fp"},
            "/v1/things/-/rankings/top/t%6Fp",
        ),
        (
            {"path": "/v1/things/-/most-read/a", "raw_path": b"/v1/things/-/most%2Dread/%61"},
            "/v1/things/-/most-read/%61",
        ),
        ({"path": "/v1/th/ings/a", "raw_path": b"/v1/th%2Fings/a"}, "/v1/th%2Fings/a"),
        ({"path": "/v1/%74hings/a", "raw_path": b"/v1/%2574hings/a"}, "/v1/%2574hings/a"),
        ({"path": "/v1/thing%/a", "raw_path": b"/v1/thing%/a"}, "/v1/thing%/a"),
    ],
)
async def test_in_paths_of_the_interface_only_names_are_decoded(scope: dict[str, Any], path: str) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    kind: dict[str, Literal["http"]] = {"type": "http"}
    await UndecodedPaths(app)(kind | scope, None, None)  # type: ignore[arg-type]
    assert seen == [path]
