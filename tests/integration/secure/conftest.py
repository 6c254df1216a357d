"""One set of secured servers for the tests of this room."""

from collections.abc import Iterator

import pytest

from tests.conftest import have
from tests.support.stack import run
from tests.worlds.secured import Servers
from tests.worlds.secured_pipeline import Place


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("secured"))
    try:
        have(lambda: started(servers))
        yield servers
    finally:
        servers.kill()


@pytest.fixture(scope="session")
def place(secured: Servers) -> Place:
    """Users with all that the docs give them. A test that takes something away gives it back."""
    return run(Place.on(secured))


def started(servers: Servers) -> str:
    run(servers.start())
    return ""
