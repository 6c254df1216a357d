"""Plans: whatever way a document takes through one, the same is asked of Redis."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog.declarations import Declarations
from neverstale.derived.contributions import pack
from neverstale.derived.facts import Facts
from neverstale.derived.generations import Generation
from neverstale.derived.plan import Plan, Said
from neverstale.derived.redis_names import DerivedNames
from neverstale.derived.tagged import Effects

READ_AT = 100
DECLARED = Declarations.model_validate(
    {
        "shown": ["gate", "day"],
        "lists": {
            "of_day": {"by": ["day"]},
            "open": {"by": ["gate"], "where": {"open": True}},
            "all": {"by": []},
        },
        "counters": {"by_gate": {"by": ["gate", "day"], "sums": {"delay": {"field": "delay"}}}},
        "rankings": {"late": {"by": ["day"], "score": "delay", "size": 10}},
    }
)
GENERATION = Generation("g1", "complete", "redis", 16, DECLARED.text, birth=1)
NAMES = DerivedNames("ns", "things")

documents = st.fixed_dictionaries(
    {},
    optional={
        "gate": st.sampled_from(["A1", "B2", "x|y", ["A1", "B2"], None, "g" * 70, "b" * 600]),
        "day": st.sampled_from(["mon", "tue", 3, [*range(40)]]),
        "open": st.booleans(),
        "delay": st.sampled_from([0, -5, 7, 2**40, 2**70, 1.5, "late", None]),
    },
)
fields = st.lists(st.sampled_from(["gate", "day", "open", "delay", "text"]), max_size=3, unique=True)
records = st.builds(
    Said,
    st.sampled_from(["update", "update", "replace", "delete", "insert", "touch"]),
    st.integers(1, READ_AT),
    st.one_of(fields, st.none()),
    st.sampled_from([None, {"gate": "s:C3"}, {"day": "s:tue"}]),
)
told = st.tuples(
    st.lists(records, min_size=1, max_size=3),
    st.one_of(st.none(), st.tuples(st.integers(1, READ_AT + 5), documents)),
    st.one_of(st.none(), documents),
)


class Slow(Plan):
    """Takes every document by itself."""

    def _nameless(self, fields: Sequence[str] | None) -> Effects | None:
        return None


def facts(document: dict[str, Any] | None) -> Facts | None:
    return None if document is None else GENERATION.shape.facts([document])[0]


def asked(kind: type[Plan], some: list[Any]) -> tuple[Any, ...]:
    plan = kind(NAMES, GENERATION, READ_AT)
    plan.add(
        [f"s:{number}" for number in range(len(some))],
        [records for records, _, _ in some],
        [pack(held[0], facts(held[1]) or ()) if held is not None else b"" for _, held, _ in some],
        [facts(document) for _, _, document in some],
    )
    call = plan.call("e" * 16, 0)
    return meaning(call.keys, call.arguments), plan.unsummable


def meaning(keys: list[bytes], arguments: list[Any]) -> tuple[Any, ...]:
    """The arguments of `contribute.lua` with names instead of places, in no order."""
    head, rest = arguments[:9], iter(arguments[9:])
    sections = []
    for width, count in zip((4, 3, 3, 3, 3), head[4:], strict=True):
        rows = [[next(rest) for _ in range(width)] for _ in range(count)]
        sections.append(Counter((keys[int(row[0]) - 1], *map(str, row[1:])) for row in rows))
    unproven = Counter(keys[: head[3]])
    return head[:3], unproven, Counter(keys), sections


@given(st.lists(told, max_size=6))
def test_a_usual_update_asks_the_same_as_if_it_were_looked_at_alone(some: list[Any]) -> None:
    assert asked(Plan, some) == asked(Slow, some)


def test_a_document_beyond_a_bound_that_changed_is_seen_beside_one_that_did_not() -> None:
    update, beyond = [Said("update", 5, ["delay"], None)], {"day": [*range(40)], "delay": 1}
    some = [(update, (4, beyond), beyond | {"delay": 2}), (update, (4, beyond), beyond)]
    for order in (some, some[::-1]):
        assert asked(Plan, order) == asked(Slow, order)


def test_updates_of_a_field_that_names_no_group_are_usual() -> None:
    plan = Plan(NAMES, GENERATION, READ_AT)
    assert plan._nameless(["text"])
    assert plan._nameless(["gate"]) is None
    assert plan._nameless(None) is None


@given(st.lists(documents, max_size=6))
def test_facts_do_not_depend_on_the_documents_beside(some: list[dict[str, Any]]) -> None:
    assert GENERATION.shape.facts(some) == [facts(document) for document in some]
