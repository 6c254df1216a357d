"""Access: scopes, public resources and demands; the fast path and the routes decide alike."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neverstale.api.callers.access import HIT_KINDS, Access, Reads
from neverstale.api.callers.addresses import Addresses
from neverstale.api.callers.caller import ANYBODY, Caller
from neverstale.api.callers.cross_origin import CrossOrigin
from neverstale.api.callers.gate import Badge, Gate
from neverstale.api.callers.identify import Callers
from neverstale.api.callers.scopes import DEMANDS, KINDS, Kind, rights_in, wrong_with
from neverstale.api.hits.request_lines import LINE, PAGE_LINE
from neverstale.api.web.demands import PLAIN
from neverstale.catalog import Resource
from neverstale.settings import CallerSettings, Cors, Limits

Headers = list[tuple[bytes, bytes]]


def resources(**public: bool | None) -> dict[str, Resource]:
    return {
        name: Resource.model_validate({"name": name, "key_type": "string", "public": value})
        for name, value in public.items()
    }


RESOURCES = resources(a=None, b=None, shown=True, hidden=False)
CONFIGURED = CallerSettings.model_validate({"keys_file": "keys.json"})
SCOPED = CallerSettings.model_validate({"keys_file": "keys.json", "demands": "scoped"})


def caller(scopes: str) -> Caller:
    return Caller("test", rights_in(scopes))


@pytest.mark.parametrize(
    ("scopes", "resource", "kind", "allowed"),
    [
        ("read:a", "a", "documents", True),
        ("read:a", "a", "export", True),
        ("read:a", "b", "documents", False),
        ("read:a:lists", "a", "lists", True),
        ("read:a:lists", "a", "documents", False),
        ("read:a:lists read:a:documents", "a", "documents", True),
        ("read:*", "b", "live", True),
        ("read:*:lists", "b", "lists", True),
        ("read:*:lists", "b", "export", False),
        ("read:a:*", "a", "counters", True),
        ("read:a:*", "b", "counters", False),
        ("read", "a", "documents", False),
        ("read:", "a", "documents", False),
        ("read:A", "a", "documents", False),
        ("read:a*", "a", "documents", False),
        ("read:a:documents:x", "a", "documents", False),
        ("openid profile demand:* tenants:*", "a", "documents", False),
        ("", "a", "documents", False),
        ("", "shown", "export", True),
        ("read:a", "hidden", "documents", False),
        ("read:hidden", "hidden", "documents", True),
    ],
)
def test_a_scope_allows_what_it_says(scopes: str, resource: str, kind: Kind, allowed: bool) -> None:
    problem = Access(CONFIGURED, RESOURCES).refusal(caller(scopes), Reads(resource, kind), [])
    assert problem is None if allowed else problem is not None
    if problem is not None:
        assert (problem.status, problem.members["scope"]) == (403, f"read:{resource}:{kind}")


@pytest.mark.parametrize("resource", ["a", "shown", "hidden"])
def test_without_credentials_only_what_is_public_is_read(resource: str) -> None:
    problem = Access(CONFIGURED, RESOURCES).refusal(ANYBODY, Reads(resource), [])
    assert (None if problem is None else problem.status) == (None if resource == "shown" else 401)


@pytest.mark.parametrize(("resource", "status"), [("a", None), ("shown", None), ("hidden", 401)])
def test_while_no_callers_are_configured_all_is_open_that_is_not_closed(resource: str, status: int | None) -> None:
    problem = Access(CallerSettings(), RESOURCES).refusal(ANYBODY, Reads(resource), [])
    assert (None if problem is None else problem.status) == status


def test_following_changes_is_a_kind_of_its_own() -> None:
    access, events = Access(CONFIGURED, RESOURCES), [(b"accept", b"text/event-stream")]
    assert access.refusal(caller("read:a:documents"), Reads("a"), []) is None
    problem = access.refusal(caller("read:a:documents"), Reads("a"), events)
    assert problem is not None and problem.members["scope"] == "read:a:live"
    assert access.refusal(caller("read:a:documents read:a:live"), Reads("a"), events) is None
    assert access.refusal(caller("read:a:live"), Reads("a"), events) is not None


DEMANDING: list[tuple[Headers, str | None]] = [
    ([], None),
    ([(b"cache-control", b"no-cache")], "no-cache"),
    ([(b"cache-control", b"max-age=1")], "max-age"),
    ([(b"cache-control", b"max-age=60")], None),
    ([(b"cache-control", b"max-age=600"), (b"cache-control", b"max-age=59")], "max-age"),
    ([(b"cache-control", b"only-if-cached")], "only-if-cached"),
    ([(b"cache-control", b"stale-if-error=5")], "stale-if-error"),
    ([(b"neverstale-min-version", b"5117a1b300000001")], "min-version"),
    ([(b"cache-control", b"max-stale, no-store")], None),
]


@pytest.mark.parametrize(("headers", "demand"), DEMANDING)
def test_scoped_demands_are_for_those_who_have_the_scope(headers: Headers, demand: str | None) -> None:
    def missing(scopes: str, settings: CallerSettings = SCOPED) -> str | None:
        problem = Access(settings, RESOURCES).refusal(caller(scopes), Reads("a"), headers)
        return None if problem is None else problem.members["scope"]

    assert missing("read:a") == (None if demand is None else f"demand:{demand}")
    assert missing(f"read:a demand:{demand}") is None
    assert missing("read:a demand:*") is None
    assert missing("read:a", CONFIGURED) is None
    problem = Access(SCOPED, RESOURCES).refusal(ANYBODY, Reads("shown"), headers)
    assert (None if problem is None else problem.status) == (None if demand is None else 401)


@pytest.mark.parametrize("scope", ["read:a", "read:*:lists", "demand:no-cache", "demand:*", "tenants:a", "tenants:*"])
def test_scopes_of_ours_are_recognised(scope: str) -> None:
    assert wrong_with(scope) is None


SCOPES = st.sets(
    st.sampled_from(
        [f"read:{name}{kind}" for name in ("a", "b", "*") for kind in ("", ":*", *(f":{each}" for each in KINDS))]
        + [f"demand:{each}" for each in (*DEMANDS, "*")]
        + ["tenants:*", "openid"]
    )
)
PATHS: list[tuple[bytes, Kind]] = [
    (b"/key", "documents"),
    (b"/a%2Fb", "documents"),
    (b"/-", "documents"),
    (b"/lists", "documents"),
    (b"/-/lists/x", "lists"),
    (b"/-/lists/x?a=/-/b", "lists"),
    (b"/-/by/email/x", "lookups"),
    (b"/-/counters/x", "counters"),
    (b"/-/rankings/x", "rankings"),
    (b"/-/export", "export"),
    (b"/-/most-read", "most-read"),
]
LINES: list[tuple[bytes, Reads]] = [
    (b"GET /v1/%s%s HTTP/1.1" % (name.encode(), rest), Reads(name, kind))
    for name in RESOURCES
    for rest, kind in PATHS
]


ALL_HITS = {f"read:*:{kind}" for kind in HIT_KINDS.values()}


@given(SCOPES, st.sampled_from(LINES), st.sampled_from([b"GET", b"HEAD"]), st.booleans())
@example(ALL_HITS, (b"GET /v1/hidden/-/counters/x HTTP/1.1", Reads("hidden", "counters")), b"GET", True)
def test_the_fast_path_answers_nobody_whom_a_route_would_refuse(
    scopes: set[str], line: tuple[bytes, Reads], method: bytes, configured: bool
) -> None:
    access = Access(CONFIGURED if configured else CallerSettings(), RESOURCES)
    text, reads = line
    for who in (caller(" ".join(scopes)), ANYBODY):
        badge = Badge(who, access, b"")
        allowed = access.refusal(who, reads, []) is None
        answered = badge.may_have(method + text[3:])
        assert not answered or allowed
        if reads.kind in HIT_KINDS.values():
            assert answered == allowed


@given(st.binary(max_size=60), SCOPES)
def test_a_line_that_is_none_of_ours_breaks_nothing(line: bytes, scopes: set[str]) -> None:
    badge = Badge(caller(" ".join(scopes)), Access(CONFIGURED, RESOURCES), b"")
    for each in (line, b"GET /v1/" + line, b"GET /v1/a/" + line + b" HTTP/1.1"):
        badge.may_have(each)


def test_what_the_fast_path_knows_of_lines_is_what_it_answers() -> None:
    """A new kind of line there must be one that `Badge.may_have` tells apart."""
    assert set(HIT_KINDS.values()) == {"documents", "lists", "lookups"} <= set(KINDS)
    assert LINE.fullmatch(LINES[0][0]) and PAGE_LINE.fullmatch(LINES[4][0])


def test_a_gate_forgets_badges_when_keys_change() -> None:
    callers = Callers(CONFIGURED)
    gate = Gate(Access(CONFIGURED, RESOURCES), callers, Addresses(Limits()), CrossOrigin(Cors()))
    badge = gate.badge_of([])
    assert badge is not None
    gate.remember(b"block", PLAIN, badge)
    assert gate.blocks == {b"block": (b"block", PLAIN, badge)} and badge.age is gate.age
    callers.on_change()
    assert gate.blocks == {} and badge.age is not gate.age, "whoever keeps it, believes it no more"
    again = gate.badge_of([])
    assert again is not None and again.age is gate.age


def test_a_badge_ends_with_its_caller() -> None:
    gate = Gate(Access(CONFIGURED, RESOURCES), Callers(CONFIGURED), Addresses(Limits()), CrossOrigin(Cors()))
    held: Any = Caller("test", rights_in("read:a"), until=101.0)
    assert gate.badge(held, []).until == 101.0


def test_lines_that_are_remembered_are_few_and_short() -> None:
    access = Access(CONFIGURED, RESOURCES)
    for key in (b"x" * 300, b"x"):
        assert access.hit_of(b"GET /v1/a/%b HTTP/1.1" % key) == b"a:documents"
    access.hit_of(b"GET /v1/nothing/x HTTP/1.1")
    assert list(access.lines) == [b"GET /v1/a/x HTTP/1.1"]
