"""Callers on real servers: the fast path and the routes decide alike, and what changes is noticed."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from neverstale.api.endpoints import asgi_route
from neverstale.catalog import Resource
from neverstale.ops.caller_keys import add, revoke
from neverstale.settings import CallerSettings
from tests.support.dropping import drop_database
from tests.support.tokens import Provider, caller_settings
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Served, header, status, unmoved

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDER, NEWER = Provider(), Provider("-2")
PATH = "/v1/things/a"
OTHER = "Cache-Control: max-stale"
"""Changes no answer, and takes the ordinary way."""


TENANTS = ("acme", "other")
ORDERS = Resource.model_validate(
    {
        "name": "orders",
        "key_type": "string",
        "tenant": {"field": "who", "claim": "org"},
        "lists": {"mine": {"by": {"who": "claim:org"}}, "every": {}},
        "counters": {"mine": {"by": ["who"]}},
        "rankings": {"mine": {"by": ["who"], "score": "n"}},
    }
)


class Keys:
    """The files of keys, and what their callers show."""

    def __init__(self, folder: Path) -> None:
        self.file, self.published = folder / "keys.json", folder / "jwks.json"
        self.published.write_bytes(PROVIDER.text("ec"))
        self.reader = add(self.file, "reader", ["read:things"], {}, None)[1]
        self.other = add(self.file, "other", ["read:numbers"], {}, None)[1]

    @property
    def settings(self) -> CallerSettings:
        return caller_settings(keys_file=self.file, jwks_file=self.published, reload_seconds=0.02)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongo_uri: str, redis_url: str, keys: Keys) -> AsyncIterator[World]:
    name = f"test_{secrets.token_hex(6)}"
    catalog = catalog_of(name)
    public = {"tokens": catalog.resources["tokens"].model_copy(update={"public": True})}
    catalog = catalog.model_copy(update={"resources": catalog.resources | public | {"orders": ORDERS}})
    async with World.of(settings_of(mongo_uri, redis_url, name), catalog) as world:
        await world.write("things", {"_id": "a", "n": 1})
        await world.write("orders", *({"_id": f"{who}{n}", "who": who, "n": n} for who in TENANTS for n in range(3)))
        world.settings = world.settings.model_copy(update={"callers": keys.settings})
        yield world
        await asyncio.to_thread(drop_database, mongo_uri, name)
        for key in [key async for key in world.redis.scan_iter(f"{name}*", count=1000)]:
            await world.redis.delete(key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(world: World, keys: Keys) -> AsyncIterator[Served]:
    async with Served.of(world, proxy_headers=False) as served:
        await served.mark()
        await hot(served, keys.reader)
        yield served


def shows(credential: str) -> str:
    return f"Authorization: Bearer {credential}"


async def ask(served: Served, *headers: str, path: str = PATH, method: str = "GET") -> bytes:
    async with served.connection() as client:
        return await client.get(path, *headers, method=method)


async def hot(served: Served, credential: str) -> bytes:
    """Ask until memory answers this caller."""
    held: list[bytes] = []

    async def in_memory() -> bool:
        await served.vouched()
        held[:] = [await ask(served, shows(credential))]
        return b"detail=l1" in held[0]

    await eventually(in_memory, "memory answers the caller")
    return held[0]


@asynccontextmanager
async def only_the_fast_path(served: Served, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What takes the ordinary way fails."""

    async def fails(*_: Any) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(asgi_route.AsgiRoute, "handle", fails)
        yield


async def test_hits_of_callers_take_the_short_way(
    served: Served, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = PROVIDER.token()
    for credential in (keys.reader, token):
        await hot(served, credential)
    async with only_the_fast_path(served, monkeypatch):
        for credential in (keys.reader, token):
            assert status(await ask(served, shows(credential))) == 200


async def test_hits_of_callers_are_for_no_shared_cache_whichever_way_they_take(served: Served, keys: Keys) -> None:
    ways = [unmoved(await hot(served, keys.reader)), unmoved(await ask(served, shows(keys.reader), OTHER))]
    assert ways[0].replace(b"=l1", b"=l2") == ways[1]
    assert header(ways[0], "cache-control") == "private, no-cache"
    assert header(ways[0], "vary") == "accept, accept-encoding, authorization"
    bodiless = [await ask(served, shows(keys.reader), *more, method="HEAD") for more in ((), (OTHER,))]
    assert unmoved(bodiless[0]).replace(b"=l1", b"=l2") == unmoved(bodiless[1])


REFUSED: dict[str, tuple[Callable[[], list[str]], int]] = {
    "nothing": (list, 401),
    "another scheme": (lambda: ["Authorization: Basic dXNlcjpwYXNz"], 401),
    "twice": (lambda: [shows("x"), shows("y")], 401),
    "no key": (lambda: [shows("nsk_aaaaaaaa_" + "s" * 43)], 401),
    "a stranger's token": (lambda: [shows(Provider().token())], 401),
    "a token without end": (lambda: [shows(PROVIDER.token(exp=None))], 401),
    "a token that has ended": (lambda: [shows(PROVIDER.token(exp=int(time.time()) - 60))], 401),
    "a token for others": (lambda: [shows(PROVIDER.token(aud="https://other.test/"))], 401),
    "a token without the scope": (lambda: [shows(PROVIDER.token(scope="read:numbers"))], 403),
}
"""Headers are made within each test: a token lives a minute, and a long run collects its tests long before."""


@pytest.mark.parametrize(("shown", "expected"), REFUSED.values(), ids=REFUSED)
async def test_a_hit_in_memory_is_refused_on_every_way(
    served: Served, keys: Keys, shown: Callable[[], list[str]], expected: int
) -> None:
    await hot(served, keys.reader)
    headers = shown()
    async with served.connection() as client:
        kept = [await client.get(PATH, *headers) for _ in range(2)]
        ordinary = await client.get(PATH, *headers, OTHER)
        unchanged = await client.get(PATH, *headers, "If-None-Match: *")
    assert [status(each) for each in (*kept, ordinary, unchanged)] == [expected] * 4
    challenge = header(kept[0], "www-authenticate")
    assert challenge is not None and challenge.startswith('Bearer realm="neverstale"')
    assert b'"n":1' not in b"".join((*kept, ordinary, unchanged))
    assert header(kept[0], "cache-control") == "no-store"


async def test_the_right_of_one_caller_is_not_that_of_the_next_on_a_connection(served: Served, keys: Keys) -> None:
    await hot(served, keys.reader)
    async with served.connection() as client:
        answers = [
            await client.get(PATH, *headers)
            for headers in ([shows(keys.reader)], [], [shows(keys.other)], [shows(keys.reader)], [shows(keys.other)])
        ]
    assert [status(each) for each in answers] == [200, 401, 403, 200, 403]


async def test_what_is_public_is_answered_to_everybody_and_may_be_shared(served: Served) -> None:
    absent = await ask(served, path=f"/v1/tokens/{'0' * 8}-0000-0000-0000-{'0' * 12}")
    assert (status(absent), header(absent, "cache-control")) == (404, "no-cache")
    wrong = await ask(served, shows("x"), path=f"/v1/tokens/{'0' * 8}-0000-0000-0000-{'0' * 12}")
    assert status(wrong) == 401


async def test_freshness_tells_callers_of_what_they_may_read(served: Served, keys: Keys) -> None:
    told = [
        json.loads((await ask(served, *headers, path="/v1/freshness")).partition(b"\r\n\r\n")[2])["resources"]
        for headers in ([], [shows(keys.reader)], [shows(keys.other)])
    ]
    assert list(map(sorted, told)) == [["tokens"], ["things", "tokens"], ["numbers", "tokens"]]


async def test_a_revoked_key_is_refused_on_an_open_connection(served: Served, keys: Keys) -> None:
    leaving = add(keys.file, "leaving", ["read:things"], {}, None)[1]

    async def known() -> bool:
        return status(await ask(served, shows(leaving))) == 200

    await eventually(known, "the new key is known")
    await hot(served, leaving)
    async with served.connection() as client:
        assert status(await client.get(PATH, shows(leaving))) == 200
        revoke(keys.file, "leaving")

        async def refused() -> bool:
            return status(await client.get(PATH, shows(leaving))) == 401

        await eventually(refused, "the revoked key is refused")
        assert status(await client.get(PATH, shows(keys.reader))) == 200


async def test_keys_of_the_provider_are_rotated(served: Served, keys: Keys) -> None:
    old, new = PROVIDER.token(), NEWER.token()
    await hot(served, old)
    keys.published.write_bytes(NEWER.text("ec"))
    try:

        async def rotated() -> bool:
            return [status(await ask(served, shows(each))) for each in (old, new)] == [401, 200]

        await eventually(rotated, "the new key holds, and the old one does not")
    finally:
        keys.published.write_bytes(PROVIDER.text("ec"))


async def test_a_file_that_became_unreadable_changes_nothing(served: Served, keys: Keys) -> None:
    text = keys.file.read_bytes()
    keys.file.write_bytes(b"{")
    try:
        await asyncio.sleep(0.1)
        assert status(await ask(served, shows(keys.reader))) == 200
    finally:
        keys.file.write_bytes(text)


async def found(served: Served, path: str, token: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=20) as client:
        response = await client.get(f"/v1/orders{path}", headers={"authorization": f"Bearer {token}"})
        if response.headers["content-type"] == "application/x-ndjson":
            return response.status_code, sorted(json.loads(line)["_id"] for line in response.text.splitlines())
        return response.status_code, response.json()


async def test_a_tenant_sees_its_own_whatever_it_asks_for(served: Served) -> None:
    acme = PROVIDER.token(scope="read:orders", org="acme")
    assert (await found(served, "/acme1", acme))[0] == 200
    foreign, missing = [await found(served, path, acme) for path in ("/other1", "/none")]
    assert foreign == missing and foreign[0] == 404
    _, many = await found(served, "?keys=acme0,other0", acme)
    assert [item["value"] is None for item in many["items"]] == [False, True]
    assert await found(served, "/-/export", acme) == (200, ["acme0", "acme1", "acme2"])
    _, page = await found(served, "/-/lists/mine", acme)
    assert [item["_id"] for item in page["items"]] == ["acme0", "acme1", "acme2"]
    assert (await found(served, "/-/counters/mine", acme))[1]["count"] == 3
    _, ranking = await found(served, "/-/rankings/mine", acme)
    assert ranking["items"][0]["key"] == "acme2"


@pytest.mark.parametrize(
    "path", ["/-/lists/mine?who=other", "/-/counters/mine?who=other", "/-/rankings/mine?who=other", "/-/lists/every"]
)
async def test_a_tenant_asks_for_no_others(served: Served, path: str) -> None:
    assert (await found(served, path, PROVIDER.token(scope="read:orders", org="acme")))[0] == 403
    assert (await found(served, path, PROVIDER.token(scope="read:orders tenants:orders")))[0] == 200


async def test_who_names_no_tenant_sees_nothing(served: Served) -> None:
    nobody = PROVIDER.token(scope="read:orders")
    for path in ("/acme1", "?keys=acme0", "/-/export", "/-/lists/mine", "/-/counters/mine"):
        assert (await found(served, path, nobody))[0] == 403
