"""What tests of several rooms stand on: names of their own on the shared servers."""

import pytest

from neverstale.ops.stack import role
from neverstale.settings import Settings
from tests.faults.rig.nursery import Nursery
from tests.worlds.consuming import settings_of
from tests.worlds.watching import Place


@pytest.fixture
def place(mongo_uri: str, kafka_servers: str, database: str, topic: str) -> Place:
    """Where a watcher reads and writes."""
    return Place(mongo_uri, kafka_servers, database, topic)


@pytest.fixture
def settings(mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str) -> Settings:
    """Of a role that uses all three servers."""
    return settings_of(mongo_uri, kafka_servers, redis_url, topic, redis_prefix)


@pytest.fixture
def forked_roles(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles begin as forks of a process that has imported all. For tests that are of no role's start."""
    monkeypatch.setattr(role, "RunningRole", nursery.role())
