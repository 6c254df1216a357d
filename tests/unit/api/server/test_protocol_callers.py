"""A hit in memory, over a connection: the short way answers nobody whom the long way refuses."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neverstale.api.app import create_app
from neverstale.api.callers.access import Access
from neverstale.api.callers.addresses import Addresses
from neverstale.api.callers.cross_origin import CrossOrigin
from neverstale.api.callers.gate import Gate
from neverstale.api.callers.identify import Callers
from neverstale.api.callers.key_file import StaticKey, StaticKeys, hashed, now
from neverstale.api.callers.key_set import KeySet
from neverstale.api.derived.sources import Sources
from neverstale.api.freshness.bound import Bounds
from neverstale.api.hits.fast_path import Hot
from neverstale.api.hits.request_lines import RequestLines
from neverstale.api.reads.l1 import L1
from neverstale.api.reads.reader import Reader
from neverstale.api.web.compression import Compressed
from neverstale.api.web.headers import document_tail
from neverstale.catalog import Catalog
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.role.tasks import Tasks
from neverstale.settings import Cors, Limits, Settings
from tests.support.connected import Connected
from tests.support.sources import documents_of
from tests.support.tokens import Provider, caller_settings

CATALOG = Catalog.model_validate(
    {
        "database": "test",
        "resources": {
            "things": {"key_type": "string"},
            "shown": {"key_type": "string", "public": True},
            "mine": {"key_type": "string", "tenant": {"field": "t"}},
        },
    }
)
SETTINGS = caller_settings(keys_file="keys.json")
APP = create_app(Settings(callers=SETTINGS), CATALOG)
PROVIDER, STRANGER = Provider(), Provider()
SECRET = "s" * 43
READS: Final = ("things", "shown", "mine")
CREDENTIALS: dict[str, Callable[[], list[str]]] = {
    "nothing": list,
    "a key": lambda: [f"Bearer nsk_aaaaaaaa_{SECRET}"],
    "a wrong key": lambda: [f"Bearer nsk_aaaaaaaa_{SECRET[1:]}t"],
    "a token": lambda: [f"Bearer {PROVIDER.token(tenant='acme')}"],
    "a token for all": lambda: [f"Bearer {PROVIDER.token(scope='read:* tenants:*')}"],
    "a token for others": lambda: [f"Bearer {PROVIDER.token(scope='read:numbers')}"],
    "a stranger's token": lambda: [f"Bearer {STRANGER.token()}"],
    "a token that has ended": lambda: [f"Bearer {PROVIDER.token(exp=int(time.time()) - 60)}"],
    "two": lambda: [f"Bearer {PROVIDER.token()}"] * 2,
    "another scheme": lambda: ["Basic eDp5"],
}
"""Made within each test: a token lives a while, and a long run collects its tests long before."""
ALLOWED: dict[str, set[str]] = {
    "nothing": {"shown"},
    "a key": {"things", "shown"},
    "a token": {"things", "shown"},
    "a token for all": set(READS),
    "a token for others": {"shown"},
}
"""What each may read of these; all others nothing. Whose `mine/1` is only the long way can tell."""


class World:
    def __init__(self, **cors: Any) -> None:
        self.clock = time.time()
        callers = Callers(SETTINGS, lambda: self.clock, lambda: self.clock)
        line = StaticKey(
            id="aaaaaaaa", name="k", sha256=hashed(SECRET.encode()), scopes=("read:things",), created=now()
        )
        callers.take_keys(StaticKeys([line]))
        callers.take_key_set(KeySet.of(PROVIDER.text()))
        self.callers = callers
        access = Access(SETTINGS, CATALOG.resources)
        cross_origin = CrossOrigin(Cors.model_validate(cors))
        gate = Gate(access, callers, Addresses(Limits()), cross_origin, lambda: self.clock)
        l1 = L1(1 << 20, 600)
        l1.vouch(9)
        sources = Sources({name: documents_of(one) for name, one in CATALOG.resources.items()})
        reader = cast("Reader", SimpleNamespace(start=None))
        hot = Hot(reader, l1, Compressed(Tasks()), Bounds(PrimaryClock()), RequestLines(sources), sources)
        hot.gate = gate
        for name in READS:
            tail = document_tail(b"a" * 16, b"b" * 16, b'{"_id":"1"}')
            l1.answers.put(f"GET /v1/{name}/1 HTTP/1.1".encode(), tail)
        self.hot = hot
        self.connected = Connected(APP, hot=hot, gate=gate)
        self.short = 0

    async def ask(self, resource: str, credentials: list[str], *more: str) -> bytes:
        """The answer. `short` counts those that no application has seen."""
        lines = [
            f"GET /v1/{resource}/1 HTTP/1.1",
            "Host: x",
            *(f"Authorization: {one}" for one in credentials),
            *more,
        ]
        connected = self.connected
        connected.transport.clear()
        connected.protocol.data_received("\r\n".join([*lines, "", ""]).encode())
        self.short += not connected.state.tasks
        await connected.run()
        return connected.transport.buffer


def status(answer: bytes) -> int:
    return int(answer[9:12])


def unmoved(answer: bytes) -> bytes:
    return b"\r\n".join(
        line for line in answer.split(b"\r\n") if not line.startswith((b"date:", b"neverstale-bound"))
    )


@pytest.mark.parametrize("resource", READS)
@pytest.mark.parametrize("name", CREDENTIALS)
async def test_both_ways_answer_alike_and_refuse_alike(name: str, resource: str) -> None:
    world = World()
    shown = CREDENTIALS[name]()
    answers = [await world.ask(resource, shown) for _ in range(4)]
    if resource in ALLOWED.get(name, ()):
        assert [status(each) for each in answers] == [200] * 4
        assert len({unmoved(each) for each in answers}) == 1
        assert world.short >= 2
        assert (b"cache-control: private, no-cache" in answers[0]) == (name != "nothing")
    elif resource == "mine" and status(answers[0]) == 500:
        assert name == "a token"  # allowed, and then looked at by the route, which has no reader here
    else:
        assert {status(each) for each in answers} <= {401, 403}
        assert world.short == 0
        assert all(b"www-authenticate: Bearer" in each and b'"_id"' not in each for each in answers)


@given(st.lists(st.tuples(st.sampled_from(list(CREDENTIALS)), st.sampled_from(("things", "shown"))), max_size=12))
@settings(max_examples=25, deadline=None)
async def test_what_a_connection_was_asked_before_changes_no_answer(asks: list[tuple[str, str]]) -> None:
    world = World()
    shown = {name: made() for name, made in CREDENTIALS.items()}
    for name, resource in asks:
        answer = await world.ask(resource, shown[name])
        assert (status(answer) == 200) == (resource in ALLOWED.get(name, ())), (name, resource)


async def test_a_token_ends_on_a_connection_that_was_answered_before() -> None:
    world = World()
    token = [f"Bearer {PROVIDER.token(exp=int(time.time()) + 5)}"]
    assert [status(await world.ask("things", token)) for _ in range(3)] == [200] * 3
    world.clock += 16
    assert [status(await world.ask("things", token)) for _ in range(2)] == [401, 401]


async def test_what_a_connection_knows_is_forgotten_with_the_keys_also_where_the_gate_has_no_room_for_it() -> None:
    world = World()
    shown = CREDENTIALS["a key"]()
    assert [status(await world.ask("things", shown)) for _ in range(3)] == [200] * 3
    world.hot.gate.blocks.clear()  # type: ignore[union-attr]  # as when there are too many
    assert status(await world.ask("things", shown)) == 200
    world.callers.take_keys(StaticKeys(()))
    assert status(await world.ask("things", shown)) == 401


async def test_a_revoked_key_is_refused_on_a_connection_that_was_answered_before() -> None:
    world = World()
    assert [status(await world.ask("things", CREDENTIALS["a key"]())) for _ in range(3)] == [200] * 3
    world.callers.take_keys(StaticKeys(()))
    assert [status(await world.ask("things", CREDENTIALS["a key"]())) for _ in range(2)] == [401] * 2


async def test_pages_of_other_origins_are_told_on_both_ways() -> None:
    world = World(origins="https://shop.test")
    for origin, allowed in (("https://shop.test", True), ("https://evil.test", False)):
        answers = [await world.ask("things", CREDENTIALS["a key"](), f"Origin: {origin}") for _ in range(3)]
        assert len({unmoved(each) for each in answers}) == 1
        assert (f"access-control-allow-origin: {origin}".encode() in answers[0]) == allowed
        assert b"vary: origin" in answers[0]
    assert world.short >= 3


async def test_without_the_rule_the_short_way_would_answer_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative control: what these tests see is the rule's work."""
    world = World()
    world.hot.gate = world.connected.protocol._gate = None
    assert status(await world.ask("things", [])) == 200
