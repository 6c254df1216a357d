"""Which servers tests get, and what a missing one means."""

import pytest

from neverstale.ops.stack.errors import StackError
from tests.conftest import have
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
    assert not {"data", "mongod", "kafka", "redis"} & set(vars(servers))


def test_a_missing_server_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="mongod not found; install it"):
        have(missing)


def test_a_missing_server_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="mongod not found; install it"):
        have(missing)
