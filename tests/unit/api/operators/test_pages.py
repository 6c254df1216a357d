"""What is on which port."""

from typing import Any

import httpx
import pytest

from neverstale.api.app import create_app
from neverstale.api.operators.pages import SERVICE
from neverstale.api.state import STATE
from neverstale.catalog import Catalog
from neverstale.settings import Api, Settings
from neverstale.settings.api import PublicPages
from tests.support.opened import opened

CATALOG = Catalog.model_validate({"database": "unused", "resources": {"things": {"key_type": "string"}}})
PAGES: dict[PublicPages, set[str]] = {
    "none": set(),
    "docs": {"/docs", "/openapi.json"},
    "all": {"/docs", "/openapi.json", "/metrics"},
}


async def asked(path: str, public: PublicPages, *, inside: bool = False) -> httpx.Response:
    app = create_app(Settings(api=Api(public_pages=public)), CATALOG)
    carried = {STATE: opened(), **({SERVICE: True} if inside else {})}

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": carried}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://api") as client:
        return await client.get(path)


@pytest.mark.parametrize("public", PAGES)
@pytest.mark.parametrize("path", sorted(PAGES["all"]))
async def test_the_public_port_shows_what_was_asked_for_and_the_own_port_everything(
    path: str, public: PublicPages
) -> None:
    shown = path in PAGES[public]
    assert (await asked(path, public)).status_code == (200 if shown else 404)
    assert (await asked(path, public, inside=True)).status_code == 200


@pytest.mark.parametrize("path", ["/metrics/", "/Metrics", "/docs/oauth2-redirect", "/redoc"])
async def test_another_spelling_shows_nothing(path: str) -> None:
    response = await asked(path, "none")
    assert response.status_code == 404 and "neverstale_" not in response.text


async def test_in_public_a_process_says_whether_it_is_ready_and_no_more() -> None:
    response = await asked("/readyz", "none")
    assert (response.status_code, response.json()) == (503, {"ready": False})
    for response in (await asked("/readyz", "all"), await asked("/readyz", "none", inside=True)):
        assert response.status_code == 503 and "mongodb" in response.json()["parts"]


@pytest.mark.parametrize("inside", [True, False])
async def test_everywhere_a_process_says_that_it_lives(inside: bool) -> None:
    assert (await asked("/livez", "none", inside=inside)).json() == {"live": True}


async def test_the_docs_may_not_be_framed_and_ask_only_where_they_must() -> None:
    headers = (await asked("/docs", "docs")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "connect-src 'self'" in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
