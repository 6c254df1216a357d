"""Documents with those that they refer to: what is read, how often, and what is said of the whole."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import hypothesis
import orjson
import pytest
from hypothesis import strategies as st

from neverstale.api.linked import linker as linker_module
from neverstale.api.linked.linker import Linker
from neverstale.api.linked.many import Each, Many
from neverstale.api.linked.view import Views
from neverstale.api.reads.answer import Answer
from neverstale.api.web.problems import Problem
from neverstale.catalog import Catalog
from neverstale.errors import Refused
from neverstale.keys import KeyValue
from neverstale.redis.entries import etag_of

CATALOG = Catalog.model_validate(
    {
        "database": "d",
        "resources": {
            "flights": {
                "key_type": "string",
                "refs": {"carrier": {"to": "airlines"}, "origin": {"to": "airports"}, "dest": {"to": "airports"}},
            },
            "airlines": {"key_type": "string", "refs": {"hub": {"to": "airports"}}},
            "airports": {"key_type": "int", "refs": {"near": {"to": "airports"}}},
        },
    }
)


@dataclass
class Shelf:
    """Documents that can be read, and a note of each read."""

    held: dict[tuple[str, KeyValue], Each]
    reads: list[dict[str, list[KeyValue]]] = field(default_factory=list)
    most_bytes: int = 1 << 20

    async def read(self, source: Any, keys: Sequence[KeyValue]) -> dict[KeyValue, Each]:
        if not self.reads or source.name in self.reads[-1]:
            self.reads.append({})
        self.reads[-1][source.name] = sorted(keys, key=str)
        await asyncio.sleep(0)
        return {key: self.held.get((source.name, key), answer(None)) for key in keys}

    def grow(self, size: int) -> None:
        self.most_bytes -= size
        if self.most_bytes < 0:
            raise Problem(413, "answer-too-large", "", "")

    def linker(self) -> Linker:
        sources = {name: SimpleNamespace(name=name) for name in CATALOG.resources}
        return Linker(cast("Mapping[str, Any]", sources), cast("Many", self))


def answer(document: Any, version: int = 5, complete: int = 9, **more: Any) -> Answer:
    body = None if document is None else orjson.dumps(document)
    told: dict[str, Any] = {"how": "hit", "detail": "l2"} | more
    return Answer(body, etag_of(body or b""), version, complete, **told)


async def shown(shelf: Shelf, root: Any, expand: Sequence[str], fields: Sequence[str] | None = None) -> Answer:
    view = Views(CATALOG.resources["flights"], CATALOG.resources).of(expand, fields)
    (found,) = (await shelf.linker().documents(view, {"root": answer(root)})).values()
    if isinstance(found, Refused):
        raise found
    return found


def body(found: Answer) -> Any:
    return orjson.loads(found.body or b"null")


async def test_a_key_is_replaced_by_the_document_that_it_names() -> None:
    shelf = Shelf({("airlines", "UA"): answer({"_id": "UA", "name": "United"})})
    found = await shown(shelf, {"_id": "root", "carrier": "UA", "z": 1.5}, ["carrier"])
    assert found.body == b'{"_id":"root","carrier":{"_id":"UA","name":"United"},"z":1.5}'
    assert found.etag == etag_of(found.body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("UA", {"_id": "UA"}),
        ("none", None),
        (None, None),
        (7, None),
        (["UA", "none", 7, None, "UA"], [{"_id": "UA"}, None, None, None, {"_id": "UA"}]),
        ([], []),
        ({"a": 1}, None),
        ("", None),
        ("x" * 5000, None),
        ([["UA"]], [None]),
    ],
)
async def test_what_names_no_document_becomes_null(value: Any, expected: Any) -> None:
    shelf = Shelf({("airlines", "UA"): answer({"_id": "UA"})})
    found = await shown(shelf, {"_id": "root", "carrier": value}, ["carrier"])
    assert body(found) == {"_id": "root", "carrier": expected}


@pytest.mark.parametrize(
    ("value", "expected"), [(3, {"_id": 3}), (3.0, {"_id": 3}), (3.5, None), (True, None), ("3", None), (2**63, None)]
)
async def test_a_number_names_what_mongodb_holds_for_equal(value: Any, expected: Any) -> None:
    found = await shown(Shelf({("airports", 3): answer({"_id": 3})}), {"_id": "r", "origin": value}, ["origin"])
    assert body(found)["origin"] == expected


async def test_a_missing_field_stays_missing() -> None:
    assert body(await shown(Shelf({}), {"_id": "root"}, ["carrier"])) == {"_id": "root"}


async def test_each_level_is_one_read_and_no_document_is_read_twice() -> None:
    shelf = Shelf(
        {
            ("airlines", "UA"): answer({"_id": "UA", "hub": 1}),
            ("airports", 1): answer({"_id": 1, "near": 2}),
            ("airports", 2): answer({"_id": 2, "near": 1}),
        }
    )
    root = {"_id": "root", "carrier": "UA", "origin": 1, "dest": 2}
    found = await shown(shelf, root, ["carrier.hub.near", "origin", "dest.near"])
    assert shelf.reads == [{"airlines": ["UA"], "airports": [1, 2]}]
    assert body(found) == {
        "_id": "root",
        "carrier": {"_id": "UA", "hub": {"_id": 1, "near": {"_id": 2, "near": 1}}},
        "origin": {"_id": 1, "near": 2},
        "dest": {"_id": 2, "near": {"_id": 1, "near": 2}},
    }


async def test_many_documents_share_their_reads() -> None:
    shelf = Shelf({("airlines", f"c{n}"): answer({"_id": f"c{n}"}) for n in range(5)})
    view = Views(CATALOG.resources["flights"], CATALOG.resources).of(["carrier", "origin"], None)
    roots: dict[KeyValue, Each] = {
        f"f{n}": answer({"_id": f"f{n}", "carrier": f"c{n % 5}", "origin": n}) for n in range(25)
    }
    await shelf.linker().documents(view, roots)
    assert [sorted(read) for read in shelf.reads] == [["airlines", "airports"]]


async def test_the_answers_own_documents_are_not_read_again() -> None:
    shelf = Shelf({})
    view = Views(CATALOG.resources["airports"], CATALOG.resources).of(["near.near"], None)
    roots: dict[KeyValue, Each] = {1: answer({"_id": 1, "near": 2}), 2: answer({"_id": 2, "near": 1})}
    found = await shelf.linker().documents(view, roots)
    assert shelf.reads == []
    assert body(cast("Answer", found[1])) == {"_id": 1, "near": {"_id": 2, "near": {"_id": 1, "near": 2}}}


async def test_more_than_200_documents_are_refused_before_they_are_read() -> None:
    held: dict[tuple[str, KeyValue], Each] = {("airports", n): answer({"_id": n}) for n in range(300)}
    shelf = Shelf(held)
    whole = await shown(shelf, {"_id": "root", "origin": [*range(200), *range(200)]}, ["origin"])
    assert len(body(whole)["origin"]) == 400
    shelf = Shelf(held)
    with pytest.raises(Problem, match="refers to 201 documents, and may to 200"):
        await shown(shelf, {"_id": "root", "origin": [*range(201)]}, ["origin"])
    assert shelf.reads == []


async def test_an_answer_that_would_grow_beyond_its_limit_is_refused_before_it_is_made() -> None:
    shelf = Shelf({("airports", 1): answer({"_id": 1, "text": "x" * 1000})}, most_bytes=100_000)
    with pytest.raises(Problem) as refused:
        await shown(shelf, {"_id": "root", "origin": [1] * 1000}, ["origin"])
    assert refused.value.status == 413


async def test_only_wanted_fields_are_shown_and_the_rest_is_not_read() -> None:
    shelf = Shelf({("airlines", "UA"): answer({"_id": "UA", "name": "United", "hub": 1})})
    root = {"_id": "root", "carrier": "UA", "origin": 1, "gate": {"a": 1, "b": 2}}
    found = await shown(shelf, root, ["carrier", "origin"], ["gate.b", "carrier.name"])
    assert found.body == b'{"_id":"root","carrier":{"_id":"UA","name":"United"},"gate":{"b":2}}'
    assert shelf.reads == [{"airlines": ["UA"]}]


async def test_a_page_keeps_what_is_around_its_items() -> None:
    shelf = Shelf({("airlines", "UA"): answer({"_id": "UA"}, version=7, complete=8)})
    view = Views(CATALOG.resources["flights"], CATALOG.resources).of(["carrier"], None)
    page = answer({"items": [{"_id": "a", "carrier": "UA"}, {"_id": "b"}], "next": "c"})
    found = await shelf.linker().page(view, page)
    assert found.body == b'{"items":[{"_id":"a","carrier":{"_id":"UA"}},{"_id":"b"}],"next":"c"}'
    assert (found.version, found.complete, found.etag) == (7, 8, etag_of(found.body))


async def test_what_is_said_of_the_whole_is_the_least_of_its_parts() -> None:
    shelf = Shelf(
        {
            ("airlines", "UA"): answer({"_id": "UA", "hub": 1}, version=6, complete=7),
            ("airports", 1): answer(None, version=8, complete=8, how="miss", detail="mongodb"),
        }
    )
    found = await shown(shelf, {"_id": "root", "carrier": "UA"}, ["carrier.hub"])
    assert (found.version, found.complete, found.how, found.detail) == (8, 7, "miss", "mongodb")
    unknown = Shelf({("airlines", "UA"): answer({"_id": "UA"}, complete=0)})
    assert (await shown(unknown, {"_id": "root", "carrier": "UA"}, ["carrier"])).complete == 0


async def test_a_part_that_mongodb_refuses_takes_only_those_that_show_it() -> None:
    refusal = Refused(1, "InternalError", "request", "", heals=False)
    shelf = Shelf({("airlines", "UA"): refusal, ("airlines", "DL"): answer({"_id": "DL"})})
    view = Views(CATALOG.resources["flights"], CATALOG.resources).of(["carrier"], None)
    roots: dict[KeyValue, Each] = {"a": answer({"carrier": "UA"}), "b": answer({"carrier": "DL"})}
    found = await shelf.linker().documents(view, roots)
    assert found["a"] is refusal
    assert body(cast("Answer", found["b"])) == {"carrier": {"_id": "DL"}}


async def test_documents_of_many_levels_can_refer_to_one_another() -> None:
    def deep(document: dict[str, Any]) -> dict[str, Any]:
        nested: Any = 1
        for _ in range(175):
            nested = {"a": nested}
        return {**document, "deep": nested}

    shelf = Shelf({("airports", n): answer(deep({"_id": n, "near": n + 1})) for n in range(3)})
    found = await shown(shelf, deep({"_id": "root", "origin": 0}), ["origin.near.near"])
    assert (found.body or b"").count(b'"deep"') == 4


# --- no part is older than what is said of the whole


@dataclass
class History:
    """When documents changed, and how they are read: each as of a moment of its own."""

    changes: dict[tuple[str, KeyValue], list[int]]
    moments: dict[tuple[str, KeyValue], int]

    def state(self, part: tuple[str, KeyValue], at: int) -> int:
        return max((version for version in self.changes.get(part, ()) if version <= at), default=0)

    def document(self, part: tuple[str, KeyValue]) -> Answer:
        """Read at a moment; it misses nothing until then."""
        at = self.moments.get(part, 50)
        version = self.state(part, at)
        links = {"hub": version % 4, "near": (version + 1) % 4}
        return answer({"_id": part[1], "state": version, **links}, version=version, complete=at)

    def missed(self, found: Answer) -> list[str]:
        """Parts that miss a change that the whole claims to have."""
        missed: list[str] = []
        view: Any = body(found)
        parts = [("airlines", view["carrier"]), ("airports", view["origin"]), ("airports", view["carrier"]["hub"])]
        for origin in [view["origin"], view["carrier"]["hub"]]:
            parts += [("airports", origin["near"])] if isinstance(origin["near"], dict) else []
        for resource, one in parts:
            if one["state"] < self.state((resource, one["_id"]), found.complete):
                missed.append(f"{resource} {one['_id']} shows {one['state']} at {found.complete}")
            if one["state"] > found.version:
                missed.append(f"{resource} {one['_id']} shows {one['state']}, later than {found.version}")
        return missed


PARTS: list[tuple[str, KeyValue]] = [("airlines", "UA"), *(("airports", n) for n in range(4))]
HISTORIES = st.builds(
    History,
    st.fixed_dictionaries({part: st.lists(st.integers(1, 99), max_size=4) for part in PARTS}),
    st.fixed_dictionaries({part: st.integers(1, 99) for part in PARTS}),
)


async def _told(history: History) -> Answer:
    shelf = Shelf({part: history.document(part) for part in PARTS})
    root = answer({"_id": "root", "carrier": "UA", "origin": 0}, version=40, complete=99)
    view = Views(CATALOG.resources["flights"], CATALOG.resources).of(["carrier.hub.near", "origin.near"], None)
    (found,) = (await shelf.linker().documents(view, {"root": root})).values()
    return cast("Answer", found)


@hypothesis.given(HISTORIES)
def test_no_part_is_older_than_the_whole_says(history: History) -> None:
    assert history.missed(asyncio.run(_told(history))) == []


def test_whoever_states_only_the_first_documents_age_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linker_module, "joined", lambda answers: answers[0])
    found = hypothesis.settings(phases=[hypothesis.Phase.generate])  # the smallest one would take seconds
    hypothesis.find(HISTORIES, lambda history: history.missed(asyncio.run(_told(history))) != [], settings=found)
