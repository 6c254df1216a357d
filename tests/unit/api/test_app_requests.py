"""What is refused before any server is asked: paths, methods, parameters and headers."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from neverstale.api.app import create_app
from neverstale.settings import Api, Settings
from tests.support.opened import carrying, opened
from tests.worlds.api import catalog_of


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """The app without its lifespan: it has no clients, so a request that needed one would fail."""
    transport = httpx.ASGITransport(
        carrying(create_app(Settings(api=Api(public_pages="docs")), catalog_of("unused")), opened())
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        yield http


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == response.status_code
    return found


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/things/a", "GET, HEAD"),
        ("/v1/things", "GET, HEAD, POST, QUERY"),
        ("/v1/-/documents", "POST, QUERY"),
        ("/v1/freshness", "GET, HEAD"),
    ],
)
async def test_other_methods_are_refused_and_told_what_is_allowed(
    http: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await http.request(method, path)
    assert problem(response)["type"] == "urn:neverstale:method-not-allowed"
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/things/a"), ("GET", "/v1/-/documents"), ("QUERY", "/v1/freshness")]
)
async def test_a_body_is_read_only_where_it_names_keys(http: httpx.AsyncClient, method: str, path: str) -> None:
    response = await http.request(method, path)
    assert (response.status_code, problem(response)["type"]) == (405, "urn:neverstale:method-not-allowed")


@pytest.mark.parametrize("path", ["/v1/nothing/a", "/v1/nothing", "/v1/nothing?keys=a", "/v1/things%2Fa/b"])
async def test_an_unknown_resource_is_a_404(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, problem(response)["type"]) == (404, "urn:neverstale:unknown-resource")


@pytest.mark.parametrize("path", ["/v2", "/v2/things/a", "/v1/things/a/b", "/v1/things/a/", "/v1/things/-/lists/x"])
async def test_an_unknown_path_is_a_404(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, problem(response)["type"]) == (404, "urn:neverstale:unknown-path")


@pytest.mark.parametrize(
    ("path", "headers", "parameter"),
    [
        ("/v1/things/", {}, "key"),
        ("/v1/things/%zz", {}, "key"),
        ("/v1/things/%ff", {}, "key"),
        ("/v1/things/" + "x" * 4097, {}, "key"),
        ("/v1/numbers/one", {}, "key"),
        ("/v1/numbers/01", {}, "key"),
        ("/v1/numbers/9223372036854775808", {}, "key"),
        ("/v1/objects/5f0d1e2a", {}, "key"),
        ("/v1/tokens/1234", {}, "key"),
        ("/v1/things/a?max_age=5", {}, "max_age"),
        ("/v1/things", {}, "keys"),
        ("/v1/things?key=a", {}, "key"),
        ("/v1/things?keys=", {}, "keys"),
        ("/v1/things?keys=a,,b", {}, "keys"),
        ("/v1/things?keys=a%zz", {}, "keys"),
        ("/v1/things?keys=" + ",".join("a" * 201), {}, "keys"),
        ("/v1/numbers?keys=1,two", {}, "keys"),
        ("/v1/things/a", {"cache-control": "max-age=soon"}, "Cache-Control"),
        ("/v1/things/a", {"cache-control": "max-age"}, "Cache-Control"),
        ("/v1/things/a", {"cache-control": "stale-if-error=-1"}, "Cache-Control"),
        ("/v1/things/a", {"neverstale-min-version": "12"}, "Neverstale-Min-Version"),
        ("/v1/things/a", {"neverstale-min-version": "00000000000000GG"}, "Neverstale-Min-Version"),
        ("/v1/things/a", {"if-none-match": "abc"}, "If-None-Match"),
        ("/v1/things/a", {"if-match": '"a" "b"'}, "If-Match"),
        ("/v1/things?keys=a", {"if-match": '*, "b"'}, "If-Match"),
        ("/v1/things/a?", {"cache-control": "no-cache=x"}, "Cache-Control"),
        ("/v1/%74hings/%zz", {}, "key"),
        ("/v1/things/a?%6Dax_age=5", {}, "max_age"),
        ("/v1/things/a?=5", {}, ""),
        ("/v1/things/-/most-read?limit=1&limit=1", {}, "limit"),
        ("/v1/things/-/most-read?limit=%zz", {}, "limit"),
        ("/v1/numbers/-/export?fields=%ff", {}, "fields"),
        ("/v1/numbers/-/export?fields=nam", {}, "fields"),
        ("/v1/numbers/-/export?fields=", {}, "fields"),
        ("/v1/numbers/-/export?fields=name,,size", {}, "fields"),
        ("/v1/freshness?x=1", {}, "x"),
    ],
)
async def test_a_malformed_parameter_is_a_400_that_names_it(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], parameter: str
) -> None:
    response = await http.get(path, headers=headers)
    assert (response.status_code, problem(response)["parameter"]) == (400, parameter)


ROUTES = ("", "/{key}", "/-/most-read", "/-/most-read/{key}", "/-/export")


async def test_openapi_has_one_typed_path_for_each_resource(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    assert set(described["paths"]) == {
        "/v1/freshness",
        "/v1/-/documents",
        *(f"/v1/{name}{rest}" for name in ("things", "numbers", "objects", "tokens") for rest in ROUTES),
    }
    number = described["components"]["schemas"]["Numbers"]
    assert set(number["properties"]) == {"_id", "name", "size"}
    assert number["properties"]["_id"]["type"] == "integer"
    assert number["properties"]["name"]["examples"] == ["text"]


async def test_openapi_documents_key_demands_and_errors_of_every_read(http: httpx.AsyncClient) -> None:
    read = (await http.get("/openapi.json")).json()["paths"]["/v1/objects/{key}"]["get"]
    names = [parameter["name"] for parameter in read["parameters"]]
    demands = ["Cache-Control", "Neverstale-Min-Version", "If-None-Match", "If-Match", "Last-Event-ID"]
    assert names == ["key", "fields", *demands]
    assert read["parameters"][0]["schema"]["pattern"] == "^[0-9a-fA-F]{24}$"
    assert set(read["responses"]) == {"200", "304", "400", "403", "404", "412", "413", "429", "431", "503", "504"}
    assert "application/problem+json" in read["responses"]["404"]["content"]


async def test_openapi_refers_to_nothing_that_is_missing(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    for reference in references(described):
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"]


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    if isinstance(node, list):
        return [found for value in node for found in references(value)]
    return []
