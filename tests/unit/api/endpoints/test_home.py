"""The page at `/`."""

import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.app import create_app
from neverstale.catalog import Catalog
from neverstale.ops.demo.flights.play import demo_catalog
from neverstale.settings import Api, Settings
from neverstale.settings.api import PublicPages
from tests.support.opened import carrying, opened


async def shown(catalog: Catalog, path: str = "/", pages: PublicPages = "all") -> httpx.Response:
    settings = Settings(api=Api(public_pages=pages))
    transport = httpx.ASGITransport(carrying(create_app(settings, catalog), opened()))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        return await client.get(path)


async def test_it_names_every_path_and_leads_to_the_docs() -> None:
    response = await shown(Catalog.load(demo_catalog()))
    assert response.status_code == 200
    for text in ("/v1/airlines/{key}", "/v1/flights/-/lists/departures?origin=…&amp;day=…", 'href="/docs"'):
        assert text in response.text


async def test_its_links_lead_somewhere() -> None:
    catalog = Catalog.load(demo_catalog())
    found = set(re.findall(r'href="([^"]+)"', (await shown(catalog)).text))
    assert found == {"/docs", "/openapi.json", "/v1/freshness", "/readyz", "/metrics"}
    assert (await shown(catalog, "/docs")).status_code == 200
    assert (await shown(catalog, "/openapi.json")).status_code == 200


@pytest.mark.parametrize(("pages", "docs"), [("none", set()), ("docs", {"/docs", "/openapi.json"})])
async def test_on_a_public_port_it_leads_only_to_what_is_there(pages: PublicPages, docs: set[str]) -> None:
    response = await shown(Catalog.load(demo_catalog()), pages=pages)
    assert set(re.findall(r'href="([^"]+)"', response.text)) == {"/v1/freshness"} | docs
    assert "Version" not in response.text


async def test_no_other_site_is_asked_and_none_may_frame_it() -> None:
    response = await shown(Catalog.load(demo_catalog()))
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "://" not in response.text


@given(st.text(min_size=1, max_size=8).filter(lambda text: text.strip()))
async def test_what_a_catalog_declares_is_shown_as_text(path: str) -> None:
    from neverstale.api.endpoints.home import _resource

    resource = Catalog.load(demo_catalog()).resources["flights"]
    counter = resource.counters["by_carrier"].model_copy(update={"by": (path + "<b>",)})
    html = _resource(resource.model_copy(update={"counters": {"odd": counter}}))
    assert "<b>" not in html
