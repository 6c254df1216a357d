"""No route, hot or cold, answers without a decision: who may, who may not, and what nobody has declared."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.routing import Route

from neverstale.api.app import create_app
from neverstale.api.callers.access import OPEN, STREAMED, Access, Reads
from neverstale.api.callers.addresses import Addresses
from neverstale.api.callers.cross_origin import CrossOrigin
from neverstale.api.callers.gate import Gate
from neverstale.api.callers.identify import Callers
from neverstale.api.callers.key_file import StaticKey, StaticKeys, hashed
from neverstale.api.callers.middleware import DecidedRoute
from neverstale.api.callers.scopes import KINDS
from neverstale.catalog import Catalog
from neverstale.settings import CallerSettings, Cors, Limits, Settings
from tests.support.opened import opened, ordinary
from tests.support.smallest import smallest_of_each_kind

CATALOG = Catalog.model_validate(
    {
        "database": "test",
        "resources": {
            "things": {
                **smallest_of_each_kind(),
                "key_type": "string",
                "lists": {"all": {}},
                "counters": {"all": {}},
                "rankings": {"top": {"score": "n", "by": ["color"]}},
                "lookups": ["email"],
                "refs": {"friend": {"to": "things"}},
                "fields": {"n": "int", "color": "string", "email": "string", "friend": "string"},
            },
            "dull": {"key_type": "int", "export": False, "most_read": False},
        },
    }
)
CONFIGURED = CallerSettings.model_validate({"keys_file": "keys.json"})
"""The file is not read here: the tests hand keys over."""


def key(name: str, *scopes: str, **fields: Any) -> tuple[str, StaticKey]:
    """What a caller shows, and the line of the file."""
    ident, secret = name.ljust(8, "0"), secrets.token_urlsafe(32)
    line = StaticKey(
        id=ident, name=name, sha256=hashed(secret.encode()), scopes=scopes, created=datetime.now(UTC), **fields
    )
    return f"nsk_{ident}_{secret}", line


NOBODY, NOBODYS = key("nobody")
READER, READERS = key("reader", *(f"read:things:{kind}" for kind in KINDS if kind != "live"))
MASTER, MASTERS = key("master", "read:*", "demand:*", "tenants:*")


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(Settings(callers=CONFIGURED), CATALOG)


@pytest.fixture(scope="module")
def gate() -> Gate:
    callers = Callers(CONFIGURED)
    callers.take_keys(StaticKeys([NOBODYS, READERS, MASTERS]))
    return Gate(Access(CONFIGURED, CATALOG.resources), callers, Addresses(Limits()), CrossOrigin(Cors()))


@pytest_asyncio.fixture
async def http(app: FastAPI, gate: Gate) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(ordinary(app, opened(gate=gate)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


def routes(app: FastAPI) -> Iterator[tuple[str, str, Reads | None]]:
    """Every method and path that some route takes, with something in its braces, and what it says it reads."""
    for route in app.router.routes:
        assert isinstance(route, Route)
        path = route.path.replace("{rest:path}", "what").replace("{key}", "1")
        for method in route.methods or {"GET", "POST", "QUERY", "DELETE"}:
            yield method, path, getattr(route, "reads", None)


def test_the_catalog_here_has_a_route_of_every_kind(app: FastAPI) -> None:
    """Or what follows would look at too few: a kind of read that is new needs a place in it."""
    declared = {reads.kind for _, _, reads in routes(app) if reads is not None}
    assert declared == set(KINDS) - {"live"}, "live reads are asked of the others' routes"
    assert {method for method, _, _ in routes(app)} >= {"GET", "HEAD", "POST", "QUERY"}


async def test_no_route_streams_to_anybody_without_the_scopes_of_live_reads(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    for method, path, reads in routes(app):
        if method == "GET" and reads is not None and reads.resource == "things" and reads.kind in STREAMED:
            events = {"accept": "text/event-stream"}
            response = await http.get(path, headers=events)
            assert response.status_code == 401, path
            response = await http.get(path, headers=events | {"authorization": f"Bearer {READER}"})
            assert response.status_code == 403 and response.json()["scope"] == "read:things:live", path


def test_every_route_says_what_it_reads_but_for_pages_and_probes(app: FastAPI) -> None:
    assert {path for _, path, reads in routes(app) if reads is None} <= OPEN
    assert {path for _, path, reads in routes(app) if reads is not None}.isdisjoint(OPEN)


async def test_no_route_answers_anybody_without_credentials(app: FastAPI, http: httpx.AsyncClient) -> None:
    for method, path, reads in routes(app):
        if reads is not None:
            response = await http.request(method, path)
            assert (response.status_code, response.headers.get("www-authenticate")) == (
                401,
                'Bearer realm="neverstale"',
            ), (method, path)


async def test_no_route_answers_a_caller_without_the_scope(app: FastAPI, http: httpx.AsyncClient) -> None:
    for method, path, reads in routes(app):
        if reads is not None and reads.resource is not None:
            response = await http.request(method, path, headers={"authorization": f"Bearer {NOBODY}"})
            missing = f"read:{reads.resource}:{reads.kind}"
            assert response.status_code == 403, (method, path)
            assert f'error="insufficient_scope", scope="{missing}"' in response.headers["www-authenticate"]
            if method != "HEAD":
                assert response.json()["scope"] == missing


async def test_no_route_refuses_a_caller_with_all_scopes(app: FastAPI, http: httpx.AsyncClient) -> None:
    for method, path, reads in routes(app):
        if reads is not None:
            # A parameter that nobody has declared: what is allowed is a mistake of the request.
            response = await http.request(method, path + "?x=1", headers={"authorization": f"Bearer {MASTER}"})
            assert response.status_code not in (401,), (method, path)
            assert "www-authenticate" not in response.headers, (method, path)


async def test_what_nobody_has_declared_is_answered_to_nobody(gate: Gate) -> None:
    """Of a route that forgets to say what it reads, however powerful the caller."""
    app = create_app(Settings(callers=CONFIGURED), CATALOG)
    forgetful = Route("/v1/things/-/secret", lambda _: JSONResponse({"secret": 1}))
    app.router.routes.insert(0, forgetful)
    transport = httpx.ASGITransport(ordinary(app, opened(gate=gate)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        response = await client.get("/v1/things/-/secret", headers={"authorization": f"Bearer {MASTER}"})
        assert (response.status_code, "secret" in response.text) == (500, False)
        app.router.routes[0] = DecidedRoute("/v1/things/-/secret", forgetful.endpoint, reads=Reads("things"))
        response = await client.get("/v1/things/-/secret", headers={"authorization": f"Bearer {MASTER}"})
        assert (response.status_code, response.json()) == (200, {"secret": 1})


async def test_answers_to_a_caller_are_for_no_shared_cache(http: httpx.AsyncClient, app: FastAPI) -> None:
    answer = JSONResponse({}, headers={"cache-control": "no-cache", "vary": "accept-encoding"})
    app.router.routes.insert(0, DecidedRoute("/v1/things/-/vary", answer, reads=Reads("things")))
    try:
        response = await http.get("/v1/things/-/vary", headers={"authorization": f"Bearer {MASTER}"})
    finally:
        del app.router.routes[0]
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "accept-encoding, authorization"


# --- pages of other origins


@pytest_asyncio.fixture
async def across(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An API that pages of two origins may read."""
    callers = Callers(CONFIGURED)
    callers.take_keys(StaticKeys([MASTERS]))
    cross_origin = CrossOrigin(Cors(origins="https://shop.test, https://desk.test"))
    gate = Gate(Access(CONFIGURED, CATALOG.resources), callers, Addresses(Limits()), cross_origin)
    transport = httpx.ASGITransport(ordinary(app, opened(gate=gate)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


ASKS = {"origin": "https://shop.test", "access-control-request-method": "GET"}


async def test_a_preflight_is_answered_without_credentials_where_there_is_something_to_read(
    across: httpx.AsyncClient, app: FastAPI
) -> None:
    for path in {path for _, path, reads in routes(app) if reads is not None and reads.resource is not None}:
        response = await across.options(path, headers=ASKS)
        assert response.status_code == 204, path
        assert response.headers["access-control-allow-origin"] == "https://shop.test"
        assert "GET" in response.headers["access-control-allow-methods"]
        assert "authorization" in response.headers["access-control-allow-headers"]
        assert response.headers["access-control-max-age"] == "600"
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/nothing", ASKS, 401),
        ("/v1/things/-/lists/none", ASKS, 401),
        ("/v1/things/1", {"origin": "https://shop.test"}, 401),
        ("/v1/things/1", {"access-control-request-method": "GET"}, 401),
        ("/livez", ASKS, 405),
    ],
)
async def test_nothing_else_is_a_preflight(
    across: httpx.AsyncClient, path: str, headers: dict[str, str], status: int
) -> None:
    response = await across.options(path, headers=headers)
    assert response.status_code == status
    assert "access-control-allow-methods" not in response.headers


@pytest.mark.parametrize(
    "origin",
    ["https://evil.test", "null", "https://shop.test.evil.test", "http://shop.test", "https://SHOP.test", "", "*"],
)
async def test_pages_of_other_origins_read_nothing(across: httpx.AsyncClient, origin: str) -> None:
    preflight = await across.options("/v1/things/1", headers=ASKS | {"origin": origin})
    answer = await across.get("/v1/freshness", headers={"origin": origin})
    for response in (preflight, answer):
        assert not any(name.startswith("access-control-allow") for name in response.headers)
        assert "origin" in response.headers["vary"].split(", ")


async def test_a_page_may_read_the_headers_of_ours_also_of_a_refusal(across: httpx.AsyncClient) -> None:
    response = await across.get("/v1/things/1", headers={"origin": "https://desk.test"})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (401, "https://desk.test")
    for name in ("neverstale-bound", "neverstale-version", "etag", "cache-status", "www-authenticate"):
        assert name in response.headers["access-control-expose-headers"].split(", ")


async def test_two_origins_are_none(across: httpx.AsyncClient) -> None:
    headers = [("origin", "https://shop.test"), ("origin", "https://desk.test")]
    response = await across.get("/v1/things/1", headers=headers)
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": "https://shop.test/"},
        {"origins": "shop.test"},
        {"origins": "https://Shop.test"},
        {"origins": "*, https://shop.test"},
        {"origins": "null"},
        {"origins": "https://*.test"},
        {"origins": "*", "credentials": True},
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Cors.model_validate(wrong)


def test_every_origin_is_named_as_such_and_needs_no_vary() -> None:
    lines = CrossOrigin(Cors(origins="*")).lines([])
    assert lines.startswith(b"access-control-allow-origin: *\r\n")
    assert b"vary" not in lines


async def test_the_description_of_the_interface_says_what_a_caller_shows_and_which_scope_it_needs(
    app: FastAPI,
) -> None:
    described = app.openapi()
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, reads in {(path, reads) for _, path, reads in routes(app) if reads is not None}:
        operation = described["paths"].get(path.replace("/1", "/{key}"), {}).get("get")
        if operation is None:
            continue
        assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
        if reads.resource is not None:
            assert operation["security"] == [{"bearer": [f"read:{reads.resource}:{reads.kind}"]}]
