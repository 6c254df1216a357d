"""Tenants: whose a document is, and values of groups that come from credentials."""

from typing import Any

import orjson
import pytest
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neverstale.api.callers.access import Access, Reads
from neverstale.api.callers.caller import ANYBODY, Caller
from neverstale.api.callers.gate import Badge
from neverstale.api.callers.scopes import rights_in
from neverstale.api.callers.tenants import Claimed, owner_of
from neverstale.api.reads.answer import Answer
from neverstale.api.web.problems import Problem
from neverstale.api.web.query import asked
from neverstale.catalog import Resource
from neverstale.settings import CallerSettings

OID = "5f0d1e2a3b4c5d6e7f809192"
FIELDS = {"t": "string", "n": "int", "o": "objectid"}


def resource(field: str = "t", **declared: Any) -> Resource:
    return Resource.model_validate(
        {
            "name": "orders",
            "key_type": "string",
            "fields": FIELDS,
            "tenant": {"field": field, "claim": "org"},
            "lists": {
                "mine": {"by": {"t": "claim:org", "n": "query"}},
                "also_mine": {"by": ["t"]},
                "all": {"by": ["n"]},
            },
        }
        | declared
    )


ORDERS = resource()
CONFIGURED = CallerSettings.model_validate({"keys_file": "keys.json"})


def caller(org: Any = "acme", scopes: str = "read:orders") -> Caller:
    return Caller("test", rights_in(scopes), {} if org is None else {"org": org})


def status(work: Any) -> int | None:
    try:
        problem = work()
    except Problem as raised:
        problem = raised
    return problem.status if isinstance(problem, Problem) else None


@pytest.mark.parametrize(
    ("field", "org", "held", "owns"),
    [
        ("t", "acme", "acme", True),
        ("t", "acme", "acm", False),
        ("t", "acme", "ACME", False),
        ("t", "acme", None, False),
        ("t", "acme", {"acme": 1}, False),
        ("t", "acme", ["other", "acme"], True),
        ("t", "acme", [["acme"]], False),
        ("t", "acme", [], False),
        ("t", "1", 1, False),
        ("t", "true", True, False),
        ("n", 7, 7, True),
        ("n", "7", 7, True),
        ("n", 7, "7", False),
        ("n", 1, True, False),
        ("n", 7, 7.0, False),
        ("o", OID, OID, True),
        ("o", OID, OID[:-1] + "0", False),
    ],
)
def test_a_document_is_the_tenants_whose_field_says_so(field: str, org: Any, held: Any, owns: bool) -> None:
    one = resource(field, lists={})
    assert one.tenant is not None
    assert owner_of(caller(org), one, one.tenant).owns(orjson.dumps({"_id": "x", field: held})) is owns


def test_a_document_without_the_field_or_with_it_deeper_is_nobodys() -> None:
    assert ORDERS.tenant is not None
    owner = owner_of(caller(), ORDERS, ORDERS.tenant)
    for document in ({}, {"x": {"t": "acme"}}, {"_id": "t", "x": 'acme","t":"acme'}):
        assert not owner.owns(orjson.dumps(document))
    assert owner.owns(b'{"t":"acme","n":123456789012345678901234567890}')


def test_what_is_anothers_is_an_absence_with_all_that_is_known_of_it() -> None:
    assert ORDERS.tenant is not None
    owner = owner_of(caller(), ORDERS, ORDERS.tenant)
    answer = Answer(b'{"t":"other"}', b"e" * 16, 5, 7, "hit", "l2")
    seen = owner.seen(answer)
    assert (seen.body, seen.version, seen.complete) == (None, 5, 7)


@pytest.mark.parametrize("org", [None, "", 1.5, True, ["acme"], {"a": 1}, "x" * 600])
def test_credentials_that_do_not_say_whose_see_nothing(org: Any) -> None:
    assert ORDERS.tenant is not None
    tenant = ORDERS.tenant
    assert status(lambda: owner_of(caller(org), ORDERS, tenant)) == 403
    assert status(lambda: Claimed("t", "string", "org").put_into(b"n=1", caller(org))) == 403


def test_a_claim_that_is_no_value_of_the_fields_type_sees_nothing() -> None:
    one = resource("o", lists={})
    tenant = one.tenant
    assert tenant is not None
    assert status(lambda: owner_of(caller("acme"), one, tenant)) == 403
    assert owner_of(caller(OID), one, tenant).value == ObjectId(OID)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"n=1", {"t": "acme", "n": 1}),
        (b"", {"t": "acme"}),
        (b"n=1&t=acme", {"t": "acme", "n": 1}),
        (b"t:string=acme", {"t": "acme"}),
        (b"%74=acme", {"t": "acme"}),
        (b"t=other", 403),
        (b"t=acme&t=other", 403),
        (b"%74=other", 403),
        (b"t:null=", 403),
        (b"t:int=1", 403),
        (b"t:string=other", 403),
        (b"t:bson=AAAA", 403),
        (b"t=", 403),
    ],
)
def test_the_value_of_the_credentials_is_the_one_that_is_asked_for(query: bytes, expected: Any) -> None:
    try:
        put = Claimed("t", "string", "org").put_into(query, caller())
    except Problem as problem:
        assert problem.status == expected
    else:
        assert asked(put, ORDERS, ("t", "n"), (), whole=False).values == expected


@given(st.text(min_size=1, max_size=40), st.binary(max_size=40))
def test_no_query_asks_for_another_tenants_group(org: str, query: bytes) -> None:
    try:
        put = Claimed("t", "string", "org").put_into(query, caller(org))
        values = asked(put, ORDERS, ("t", "n"), ("limit",), whole=False).values
    except (Problem, UnicodeError):
        return
    assert values["t"] == org


@pytest.mark.parametrize(
    ("reads", "headers", "expected"),
    [
        (Reads("orders"), [], None),
        (Reads("orders", "lookups"), [], None),
        (Reads("orders", "export"), [], None),
        (Reads.of(ORDERS, "lists", ORDERS.lists["mine"]), [], None),
        (Reads.of(ORDERS, "lists", ORDERS.lists["also_mine"]), [], None),
        (Reads.of(ORDERS, "lists", ORDERS.lists["all"]), [], 403),
        (Reads("orders", "most-read", split=False), [], 403),
        (Reads("orders"), [(b"accept", b"text/event-stream")], 403),
        (Reads.of(ORDERS, "lists", ORDERS.lists["mine"]), [(b"accept", b"text/event-stream")], None),
    ],
)
def test_what_is_not_told_apart_by_tenant_is_for_those_who_see_all(
    reads: Reads, headers: Any, expected: int | None
) -> None:
    access = Access(CONFIGURED, {"orders": ORDERS})
    assert status(lambda: access.refusal(caller(), reads, headers)) == expected
    assert status(lambda: access.refusal(caller(scopes="read:orders tenants:orders"), reads, headers)) is None
    assert status(lambda: access.refusal(ANYBODY, reads, headers)) == 401


@pytest.mark.parametrize("settings", [CallerSettings(), CONFIGURED])
def test_what_depends_on_who_asks_is_never_open_and_no_hit_of_the_fast_path(settings: CallerSettings) -> None:
    access = Access(settings, {"orders": ORDERS})
    assert not access.everything_is_open
    line = b"GET /v1/orders/a HTTP/1.1"
    assert not Badge(ANYBODY, access, b"").may_have(line)
    assert not Badge(caller(), access, b"").may_have(line)
    assert Badge(caller(scopes="read:* tenants:*"), access, b"").may_have(line)


def test_who_may_ask_changes_nothing_that_is_derived() -> None:
    open_to_all = resource(tenant=None, lists={"mine": {"by": ["t", "n"]}})
    mine = resource(lists={"mine": {"by": {"t": "claim:org", "n": "query"}}})
    assert mine.derived.text == open_to_all.derived.text
    assert mine.lists["mine"].by == ("t", "n")
    assert mine.claims_of(mine.lists["mine"]) == {"t": "org"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": {"field": "t"}, "public": True},
        {"tenant": {"field": "missing"}},
        {"tenant": {"field": "a.b"}},
        {"tenant": {"field": "t", "claims": "x"}},
        {"lists": {"x": {"by": {"t": "claim"}}}},
        {"lists": {"x": {"by": {"t": "claim:"}}}},
        {"lists": {"x": {"by": {"t": 1}}}},
        {"public": True},
    ],
)
def test_what_makes_no_sense_is_refused_when_the_catalog_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        resource(**wrong)
