"""Which binaries and which broker the stack takes, and what it says when there are none."""

from pathlib import Path

import pytest

from neverstale.ops.stack import broker
from neverstale.ops.stack.broker import BrokerOptions, start_broker
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.kafka import libs
from neverstale.ops.stack.kafka.cluster import KafkaOptions, start_kafka
from neverstale.ops.stack.mongod import MongodOptions, find_mongod, start_mongod
from neverstale.ops.stack.redis import find_redis_server


def program(path: Path, code: str) -> Path:
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No wheel, an empty PATH, no variable, an empty cache."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("NEVERSTALE_MONGOD", "NEVERSTALE_REDIS_SERVER", "NEVERSTALE_KAFKA_LIBS", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_installed")
class TestWithNothingInstalled:
    def test_a_missing_mongod_is_one_sentence_with_the_remedy(self) -> None:
        with pytest.raises(StackError) as raised:
            find_mongod()
        assert str(raised.value) == (
            "mongod not found; install neverstale[local] (x86-64 Linux), put mongod on PATH, or set NEVERSTALE_MONGOD"
        )

    def test_a_missing_redis_server_is_one_sentence_with_the_remedy(self) -> None:
        with pytest.raises(StackError) as raised:
            find_redis_server()
        assert str(raised.value) == (
            "redis-server not found; install neverstale[local] (Linux), put redis-server on PATH, "
            "or set NEVERSTALE_REDIS_SERVER"
        )

    async def test_kafka_without_java_names_the_other_broker(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match=r"Apache Kafka needs Java 17.*--broker embedded"):
            await start_kafka(KafkaOptions(data=tmp_path))

    async def test_kafka_without_jars_and_maven_says_so(self, tmp_path: Path) -> None:
        program(tmp_path / "java", """echo 'openjdk version "21.0.1"' >&2""")
        with pytest.raises(StackError, match=r"Maven \(mvn\) is not either; .*--broker embedded"):
            await start_kafka(KafkaOptions(data=tmp_path))

    async def test_the_embedded_broker_without_its_package_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match=r"needs the package confluent-kafka; install neverstale\[local\]"):
            await start_broker(BrokerOptions(data=tmp_path))

    def test_programs_on_the_path_are_found(self, tmp_path: Path) -> None:
        assert find_mongod_in(tmp_path) == tmp_path / "mongod"
        program(tmp_path / "redis-server", "")
        assert find_redis_server() == tmp_path / "redis-server"

    @pytest.mark.parametrize(("version", "found"), [("1.8.0_412", False), ("11.0.2", False), ("17.0.15", True)])
    def test_only_a_java_of_17_or_later_counts(self, tmp_path: Path, version: str, found: bool) -> None:
        program(tmp_path / "java", f"""echo 'openjdk version "{version}" 2025-04-15' >&2""")
        assert (libs.find_java() is not None) is found


def find_mongod_in(folder: Path) -> Path:
    program(folder / "mongod", "")
    return find_mongod()


def test_the_variable_names_the_mongod_before_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEVERSTALE_MONGOD", str(program(tmp_path / "my-mongod", "")))
    assert find_mongod() == tmp_path / "my-mongod"


def test_a_variable_that_names_no_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVERSTALE_REDIS_SERVER", "/missing")
    with pytest.raises(StackError, match="NEVERSTALE_REDIS_SERVER names no file: /missing"):
        find_redis_server()


def test_the_jars_of_the_variable_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEVERSTALE_KAFKA_LIBS", str(tmp_path))
    with pytest.raises(StackError, match="NEVERSTALE_KAFKA_LIBS names a folder without Kafka's jars"):
        libs.cached_libs()


def test_what_is_kept_for_one_release_of_kafka_is_not_taken_for_another(tmp_path: Path) -> None:
    kept = set()
    for release in ("4.0.0", "4.1.1"):
        jars = tmp_path / release
        jars.mkdir()
        (jars / f"kafka_2.13-{release}.jar").touch()
        kept.add(libs.kept_features(jars))
    assert len(kept) == 2


async def test_a_failed_fetch_leaves_no_half_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "mvn", "echo 'repository unreachable'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NEVERSTALE_KAFKA_LIBS", raising=False)
    with pytest.raises(StackError, match=r"could not be fetched: mvn exited with code 1.*repository unreachable"):
        await libs.fetch_libs()
    assert libs.cached_libs() is None
    assert list((tmp_path / "cache" / "neverstale").iterdir()) == []


async def test_without_a_choice_a_failed_fetch_leads_to_the_embedded_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def unreachable() -> Path:
        raise StackError("no network", "connect")

    monkeypatch.setattr(broker, "find_java", lambda: tmp_path / "java")
    monkeypatch.setattr(broker, "cached_libs", lambda: None)
    monkeypatch.setattr(broker, "can_fetch", lambda: True)
    monkeypatch.setattr(broker, "fetch_libs", unreachable)
    async with await start_broker(BrokerOptions(data=tmp_path)) as started:
        assert started.kind == "embedded"


async def test_the_embedded_broker_takes_no_wish_for_a_port(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="chooses its own port; drop --kafka-port, or use --broker kafka"):
        await start_broker(BrokerOptions(data=tmp_path, choice="embedded", port=9092))


async def test_a_mongod_that_fails_to_start_tells_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = program(tmp_path / "mongod", "echo 'data files are from a newer version'; exit 62")
    monkeypatch.setenv("NEVERSTALE_MONGOD", str(failing))
    with pytest.raises(
        StackError, match=r"mongod exited with code 62, its log .*mongod\.log ends: data files are from a newer"
    ):
        await start_mongod(MongodOptions(data=tmp_path))
