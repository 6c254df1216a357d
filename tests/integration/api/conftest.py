"""The API in this process, for the tests of its room."""

from collections.abc import AsyncIterator

import pytest

from tests.worlds.api import World, catalog_of, settings_of


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, database: str, redis_prefix: str) -> AsyncIterator[World]:
    async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog_of(database)) as world:
        yield world
