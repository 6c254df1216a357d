"""Routes that are documented, and answered by plain ASGI applications."""

from collections import Counter
from typing import Any

import pytest
from fastapi.routing import APIRoute

from neverstale.api.app import create_app
from neverstale.api.endpoints import asgi_route
from neverstale.catalog import Catalog
from neverstale.ops.demo.flights.play import demo_catalog
from neverstale.settings import Settings


def test_what_answers_look_like_is_made_when_it_is_asked_for_and_not_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Counter[str]()

    class Counting(APIRoute):
        def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
            made[path] += 1
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr(asgi_route, "APIRoute", Counting)
    app = create_app(Settings(), Catalog.load(demo_catalog()))
    assert not made
    documented = app.openapi()["paths"]
    assert made == {path: len(operations) for path, operations in documented.items()}
    assert documented["/v1/flights"].keys() == {"get", "post"}, "HEAD and QUERY do the same"
