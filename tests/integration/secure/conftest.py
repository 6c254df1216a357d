"""One set of secured servers for the tests of this room."""

from collections.abc import Iterator

import pytest

from tests.conftest import have
from tests.support.stack import run
from tests.worlds.secured import Servers


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("secured"))
    try:
        have(lambda: started(servers))
        yield servers
    finally:
        servers.kill()


def started(servers: Servers) -> str:
    run(servers.start())
    return ""
