"""What the catalog switches off is refused by name, and is in no description."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from neverstale.api.app import create_app
from neverstale.catalog import Catalog
from neverstale.settings import Api, Settings
from tests.support.opened import carrying, opened

FLIGHTS: dict[str, Any] = {
    "key_type": "string",
    "counters": {"by_status": {"by": ["origin", "status"]}},
    "export": False,
    "most_read": False,
    "max_groups": 0,
}
REFUSED = (
    ("export", "export"),
    ("export/x", "export"),
    ("most-read", "most_read"),
    ("most-read/UA", "most_read"),
    ("counters/by_status", "max_groups"),
    ("counters/by_status?origin=JFK", "max_groups"),
    ("counters/by_status?group=", "max_groups"),
    ("counters/by_status?group=status", "max_groups"),
)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    resources = {"flights": FLIGHTS, "open": {**FLIGHTS, "export": True, "most_read": True, "max_groups": 7}}
    app = create_app(
        Settings(api=Api(public_pages="docs")), Catalog.model_validate({"database": "nyc", "resources": resources})
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(carrying(app, opened())), base_url="http://api"
    ) as client:
        yield client


@pytest.mark.parametrize(("path", "field"), REFUSED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_is_a_403_that_names_the_field(http: httpx.AsyncClient, method: str, path: str, field: str) -> None:
    answer = await http.request(method, f"/v1/flights/-/{path}")
    assert answer.status_code == 403
    if method == "GET":
        assert answer.json()["type"] == "urn:neverstale:switched-off"
        assert field in answer.json()["detail"]


async def test_other_methods_are_refused_as_everywhere(http: httpx.AsyncClient) -> None:
    for path in ("export", "most-read", "counters/by_status"):
        assert (await http.post(f"/v1/flights/-/{path}")).status_code == 405


async def test_more_groups_than_the_catalog_allows_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/open/-/counters/by_status?limit=8")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "limit")


async def test_the_description_leaves_it_out(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert {path for path in paths if "/open/-/" in path and path.rsplit("/", 1)[1] in ("export", "most-read")}
    assert not [path for path in paths if path.startswith(("/v1/flights/-/export", "/v1/flights/-/most-read"))]
    counter = {each["name"]: each for each in paths["/v1/flights/-/counters/by_status"]["get"]["parameters"]}
    assert not {"group", "limit"} & counter.keys()
    assert counter["origin"]["required"] and counter["status"]["required"]
    limits = {each["name"]: each["schema"] for each in paths["/v1/open/-/counters/by_status"]["get"]["parameters"]}
    assert limits["limit"]["maximum"] == 7
