"""Which servers tests get, what a missing one means, and what all workers of a run share."""

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neverstale.ops.stack.errors import StackError
from tests.conftest import have
from tests.support.shared import Shared
from tests.support.stack import GivenServers, LocalServers, choose_servers

ADDRESSES = {
    "NEVERSTALE_TEST_MONGODB_URI": "mongodb://db/?replicaSet=rs0",
    "NEVERSTALE_TEST_KAFKA": "broker:9092",
    "NEVERSTALE_TEST_REDIS_URL": "redis://cache/0",
}


def missing() -> str:
    raise StackError("mongod not found", "install it")


def test_given_addresses_win_over_the_choice() -> None:
    servers = choose_servers("local", ADDRESSES)
    assert isinstance(servers, GivenServers)
    assert servers.mongo_uri() == "mongodb://db/?replicaSet=rs0"
    assert servers.kafka_servers() == "broker:9092"
    assert servers.redis_url() == "redis://cache/0"


def test_the_choice_of_given_addresses_names_the_missing_one() -> None:
    addresses = {name: value for name, value in ADDRESSES.items() if "KAFKA" not in name}
    with pytest.raises(StackError, match="--stack=given lacks NEVERSTALE_TEST_KAFKA; set what is missing"):
        choose_servers("given", addresses)


def test_local_servers_that_nobody_asks_for_are_not_started() -> None:
    servers = choose_servers("local", {})
    assert isinstance(servers, LocalServers)
    servers.stop()
    assert not {"data", "mongod", "redis"} & set(vars(servers))


def test_a_missing_server_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="mongod not found; install it"):
        have(missing)


def test_a_missing_server_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="mongod not found; install it"):
        have(missing)


# --- the server that all workers of a run share


class Server:
    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def started() -> list[Server]:
    return []


@pytest.fixture
def worker(started: list[Server]) -> Iterator[Callable[[], Shared]]:
    """A further worker of one run."""
    run, workers = secrets.token_hex(4), list[Shared]()

    def start(folder: Path) -> tuple[Server, str]:
        started.append(Server())
        return started[-1], f"{folder.name}:{len(started)}"

    def worker() -> Shared:
        workers.append(Shared("test", start, run))
        return workers[-1]

    yield worker
    for each in reversed(workers):
        each.leave()


def test_all_workers_have_the_server_that_the_first_has_started(
    worker: Callable[[], Shared], started: list[Server]
) -> None:
    assert len({worker().address() for _ in range(3)}) == 1
    assert len(started) == 1


def test_who_has_started_it_waits_for_the_others_before_it_is_stopped(
    worker: Callable[[], Shared], started: list[Server]
) -> None:
    first, second = worker(), worker()
    first.address()
    second.address()
    leaving = threading.Thread(target=first.leave)
    leaving.start()
    leaving.join(0.2)
    assert leaving.is_alive() and not started[0].killed
    second.leave()
    leaving.join(20)
    assert started[0].killed


def test_who_comes_after_its_end_starts_another(worker: Callable[[], Shared], started: list[Server]) -> None:
    first = worker()
    was = first.address()
    first.leave()
    assert worker().address() != was
    assert [each.killed for each in started] == [True, False]


def test_a_worker_that_never_needed_it_has_nothing_to_wait_for(worker: Callable[[], Shared]) -> None:
    first, second = worker(), worker()
    first.address()
    second.leave()
    first.leave()
