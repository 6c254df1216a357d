"""What is left of a document, and where its references lie; as MongoDB's projections do it."""

from typing import Any

import pytest

from neverstale.api.linked.shapes import places, selected

DOCUMENT: dict[str, Any] = {
    "_id": 1,
    "a": {"b": {"c": 1, "d": 2}, "e": 3},
    "list": [{"b": 1, "c": 2}, 7, [{"b": 3}], {}, {"b": None}],
    "none": None,
    "text": "x",
}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"_id": None}, {"_id": 1}),
        ({"a": None}, {"a": DOCUMENT["a"]}),
        ({"a": {"b": {"d": None}}}, {"a": {"b": {"d": 2}}}),
        ({"a": {"x": None}}, {"a": {}}),
        ({"text": {"x": None}, "none": {"x": None}}, {}),
        ({"list": {"b": None}}, {"list": [{"b": 1}, {}, {"b": None}]}),
        ({"missing": None}, {}),
        ({"text": None, "_id": None}, {"_id": 1, "text": "x"}),
    ],
)
def test_only_what_is_selected_remains_in_its_order(selection: Any, expected: dict[str, Any]) -> None:
    found = selected(DOCUMENT, selection)
    assert found == expected
    assert list(found) == [name for name in DOCUMENT if name in expected]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("text",), ["x"]),
        (("none",), [None]),
        (("missing",), []),
        (("a", "b", "c"), [1]),
        (("a", "e", "x"), []),
        (("list", "b"), [1, None]),
        (("list",), DOCUMENT["list"]),
        (("text", "x"), []),
    ],
)
def test_a_path_leads_through_objects_and_arrays(path: tuple[str, ...], values: list[Any]) -> None:
    assert [holder[place] for holder, place in places(DOCUMENT, path)] == values
