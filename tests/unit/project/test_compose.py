"""docker-compose.yml, checked as far as that goes without an engine."""

import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from neverstale.catalog import Catalog
from neverstale.links.exposure import exposed
from neverstale.ops.cli.start import RoleName
from neverstale.ops.demo.flights.play import demo_catalog
from neverstale.settings.sources import load
from tests.support.containers import image_of
from tests.support.project import ROOT
from tests.support.redis_cluster import cluster_arguments

SERVERS = {"mongo", "kafka", "redis"}
ROLES = {"watcher", "consumer", "api", "console"}
NODES = {f"node-{number}" for number in range(1, 7)}
MONITORING = {"prometheus", "grafana"}
SECURE = {f"secure-{name}" for name in ("files", "mongo", "kafka", "rights", "redis", "watcher", "consumer", "api")}
"""The profile of that name; more of it in test_compose_secure.py."""
ENDING = {"secure-files", "secure-rights"}

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*))?\}|(?P<wrong>.?))")


def interpolate(value: Any, environ: Mapping[str, str]) -> Any:
    """Compose's `${VAR:-default}` in every text; any other form is a mistake here."""
    if isinstance(value, dict):
        return {key: interpolate(held, environ) for key, held in value.items()}
    if isinstance(value, list):
        return [interpolate(held, environ) for held in value]
    return _VARIABLE.sub(lambda found: _substitute(found, environ), value) if isinstance(value, str) else value


def _substitute(found: re.Match[str], environ: Mapping[str, str]) -> str:
    if found["escaped"]:
        return "$"
    if found["name"] is None or found["default"] is None:
        raise AssertionError(f"{found[0]!r} in {found.string!r} has no default")
    return environ.get(found["name"]) or found["default"]


def compose(**environ: str) -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    made: dict[str, Any] = interpolate(yaml.safe_load(text), environ)
    return made


def services(**environ: str) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = compose(**environ)["services"]
    return made


@pytest.mark.parametrize("environ", [{}, {"CONSUMERS": "5", "API_BIND": "0.0.0.0", "API_PORT": "80"}])
def test_the_file_follows_the_compose_specification(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(yaml.safe_dump(compose(**environ)), encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("text", ["$API_PORT", "${API_PORT}", "${API_PORT:?give it}"])
def test_interpolation_without_a_default_would_be_noticed(text: str) -> None:
    with pytest.raises(AssertionError, match="has no default"):
        interpolate(text, {"API_PORT": "1"})


def test_every_server_and_role_is_a_service() -> None:
    assert set(services()) == SERVERS | ROLES | {"board"} | MONITORING | SECURE | NODES | {"cluster"}


def test_a_redis_cluster_runs_only_where_it_is_asked_for_with_the_arguments_of_the_tests() -> None:
    cluster = services()["cluster"]
    assert cluster["profiles"] == ["cluster"] and set(cluster["depends_on"]) == NODES
    tested = cluster_arguments(1)
    for name in NODES:
        node = services()[name]
        assert node["profiles"] == ["cluster"]
        words = node["command"]
        for argument in ("--cluster-enabled", "--cluster-node-timeout", "--cluster-require-full-coverage"):
            assert words[words.index(argument) + 1] == tested[tested.index(argument) + 1]
    url = "redis+cluster://node-1:6379,node-2:6379,node-3:6379"
    assert f"REDIS_URL={url} " in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert load(services(REDIS_URL=url)["api"]["environment"])[0].redis.layout == "partition"


def test_monitoring_runs_only_where_it_is_asked_for_and_reads_what_is_shipped() -> None:
    for name in MONITORING:
        assert services()[name]["profiles"] == ["monitoring"]
        for volume in services()[name]["volumes"]:
            assert volume["read_only"] and (ROOT / volume["source"]).is_dir()


def test_the_flights_of_the_demo_are_played_only_where_they_are_asked_for() -> None:
    board = services()["board"]
    assert board["profiles"] == ["demo"]
    assert board["command"] == ["neverstale", "play"]
    assert Catalog.load(ROOT / "catalog.toml") == Catalog.load(demo_catalog())


def test_two_consumers_run_unless_told_otherwise() -> None:
    assert services()["consumer"]["deploy"]["replicas"] == "2"
    assert services(CONSUMERS="3")["consumer"]["deploy"]["replicas"] == "3"


def test_only_the_api_and_what_people_look_at_are_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {
        "api": ["127.0.0.1:8000:8000"],
        "console": ["127.0.0.1:8010:8010"],
        "grafana": ["127.0.0.1:3000:3000"],
        "secure-api": ["127.0.0.1:8002:8000"],
    }
    assert not any("network_mode" in service for service in services().values())


def test_what_a_published_service_shows_to_its_network_is_said_at_its_start() -> None:
    for role in ROLES:
        settings, _ = load(services()[role]["environment"])
        said = {one.setting for one in exposed(settings, role)}
        assert {"service.host"} <= said and ("console.host" in said) == (role == "console"), role


def test_every_image_is_pinned_to_a_full_version() -> None:
    for name, service in services().items():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_tests_in_containers_run_what_compose_runs() -> None:
    assert {name: image_of(name) for name in SERVERS} == {name: services()[name]["image"] for name in SERVERS}


def test_the_servers_have_the_fixes_that_we_require() -> None:
    versions = {name: tuple(map(int, services()[name]["image"].split(":")[1].split("."))) for name in SERVERS}
    assert versions["mongo"] >= (8, 0, 23)
    assert versions["kafka"] >= (4, 1, 1)
    assert versions["redis"] >= (8, 2, 9)


def test_every_service_says_whether_it_is_healthy() -> None:
    for name, service in services().items():
        if name in {"board", "cluster"} | ENDING:
            assert service["healthcheck"] == {"disable": True}, "it serves nothing"
            continue
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["healthcheck"].keys() >= {"interval", "timeout", "retries", "start_period"}, name


@pytest.mark.parametrize("role", sorted(ROLES))
def test_roles_wait_for_healthy_servers(role: str) -> None:
    assert services()[role]["depends_on"] == {name: {"condition": "service_healthy"} for name in SERVERS}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_is_the_command_that_everybody_runs(role: str) -> None:
    assert services()[role]["command"] == ["neverstale", "run", role]
    assert role in [known.value for known in RoleName]


@pytest.mark.parametrize("role", sorted(ROLES))
def test_the_environment_of_a_role_is_valid_settings(role: str) -> None:
    environ = services()[role]["environment"]
    assert all(name.startswith("NEVERSTALE_") and isinstance(value, str) for name, value in environ.items())
    settings, origins = load(environ)
    assert {origins[name] for name in ("mongodb.uri", "kafka.bootstrap_servers", "redis.url")} == {
        "NEVERSTALE_MONGODB__URI",
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS",
        "NEVERSTALE_REDIS__URL",
    }
    assert settings.service.host == "0.0.0.0"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_the_health_of_a_role_is_asked_where_it_serves(role: str) -> None:
    settings, _ = load(services()[role]["environment"])
    port = settings.console.port if role == "console" else settings.service.port
    [command, code] = [services()[role]["healthcheck"]["test"][index] for index in (1, 3)]
    assert command == "python"
    assert f"http://127.0.0.1:{port}/readyz" in code
    compile(code, "healthcheck", "exec")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_may_drain_before_it_is_killed(role: str) -> None:
    settings, _ = load(services()[role]["environment"])
    assert float(services()[role]["stop_grace_period"].removesuffix("s")) > settings.service.drain_seconds


def test_all_roles_use_the_same_topic_and_redis() -> None:
    environments = [services()[role]["environment"] for role in sorted(ROLES)]
    own = ("NEVERSTALE_API__", "NEVERSTALE_CONSOLE__")
    shared = [{k: v for k, v in e.items() if not k.startswith(own)} for e in environments]
    assert all(one == shared[0] for one in shared)


def test_servers_are_found_under_their_names() -> None:
    environ = services()["api"]["environment"]
    assert "mongo:27017" in environ["NEVERSTALE_MONGODB__URI"]
    assert "mongo:27017" in str(services()["mongo"]["healthcheck"]["test"])
    assert environ["NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS"] == "kafka:9092"
    assert services()["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"
    assert environ["NEVERSTALE_REDIS__URL"].startswith("redis://redis:6379")


def test_every_variable_that_may_be_set_is_announced() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    announced = text[: text.index("name: neverstale")]
    assert all(name in announced for name in re.findall(r"\$\{([A-Z_]+)", text))


def test_volumes_are_declared_and_used() -> None:
    used = {
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }
    assert used == set(compose()["volumes"])


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_that_grows_without_end_harms_no_server(role: str) -> None:
    assert services()[role]["mem_limit"] == "1g"
    assert services(ROLE_MEMORY="2g")[role]["mem_limit"] == "2g"


def ask_kafka(port: int) -> subprocess.Popen[bytes]:
    """Kafka's health check, which must run wherever bash does, at another port than in its container."""
    command, *words, script = services()["kafka"]["healthcheck"]["test"]
    assert (command, words) == ("CMD", ["bash", "-c"])
    return subprocess.Popen(["bash", "-c", script.replace("/9092", f"/{port}")], stderr=subprocess.DEVNULL)


def test_kafka_is_well_when_it_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ask_kafka(server.getsockname()[1]) as asked:
        connection, _ = server.accept()
        with (
            connection,
            connection.makefile("rb") as sent,
        ):  # bash sends it in two pieces: one of its bytes ends a line
            assert sent.read(14) == bytes.fromhex("0000000a 0012 0000 00000000 ffff")
            connection.sendall(bytes.fromhex("0000000a 00000000 0000 00000000"))
        assert asked.wait(10) == 0


def test_kafka_is_not_well_when_it_only_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ask_kafka(server.getsockname()[1]) as asked:
        connection, _ = server.accept()
        assert connection.recv(64)
        assert asked.poll() is None  # until Docker's time-out
        connection.close()
        assert asked.wait(10) == 1


def test_kafka_is_not_well_when_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask_kafka(port).wait(10) == 1


def test_another_catalog_can_be_given() -> None:
    [mount] = services(CATALOG="board.toml")["api"]["volumes"]
    assert (mount["source"], mount["read_only"]) == ("board.toml", True)
    assert mount["bind"] == {"create_host_path": False}  # Docker says that the file is missing, and makes no folder
    assert services()["api"]["environment"]["NEVERSTALE_CATALOG"] == mount["target"]
