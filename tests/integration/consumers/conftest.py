"""A topic, and whoever publishes on it, for the tests of the consumer."""

from collections.abc import AsyncIterator

import pytest

from neverstale.settings import Settings
from tests.worlds.consuming import Consuming, catalog_of


@pytest.fixture
async def rig(settings: Settings, database: str) -> AsyncIterator[Consuming]:
    async with Consuming.with_topic(settings, catalog_of(database)) as rig:
        yield rig
