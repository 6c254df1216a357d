"""What the settings alone tell of who can reach the servers."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from neverstale.links.exposure import exposed, is_local
from neverstale.ops.check.exposure import check_exposure
from neverstale.role.service import say_exposed
from neverstale.settings.sources import fields, load

FAR = {
    "NEVERSTALE_MONGODB__URI": "mongodb://db.internal:27017/?replicaSet=rs0",
    "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": "k1.internal:9092,k2.internal:9092",
    "NEVERSTALE_REDIS__URL": "redis://cache.internal:6379/0",
}
SAFE = {
    "NEVERSTALE_MONGODB__URI": "mongodb://u:p@db.internal:27017/?replicaSet=rs0&tls=true",
    "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": "k1.internal:9092",
    "NEVERSTALE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "NEVERSTALE_KAFKA__SASL_USERNAME": "u",
    "NEVERSTALE_KAFKA__SASL_PASSWORD": "p",
    "NEVERSTALE_REDIS__URL": "rediss://u:s3cret@cache.internal:6379/0",
}


def said(**environ: str) -> list[str]:
    return [one.subject for one in exposed(load(environ)[0])]


def test_on_one_machine_nothing_is_exposed() -> None:
    assert said() == []
    assert said(NEVERSTALE_REDIS__URL="unix:///run/redis.sock") == []


def test_plain_text_beyond_the_machine_is_said_of_each_server() -> None:
    assert said(**FAR) == ["mongodb", "kafka", "kafka", "redis", "redis"]


def test_tls_and_passwords_leave_nothing_to_say_and_are_never_shown() -> None:
    assert said(**SAFE) == []
    assert "s3cret" not in str(list(check_exposure(load(SAFE | {"NEVERSTALE_API__HOST": "0.0.0.0"})[0])))


PLAIN = "NEVERSTALE_REDIS__URL"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"NEVERSTALE_MONGODB__URI": "mongodb+srv://db.internal/"}, []),
        ({"NEVERSTALE_MONGODB__URI": "mongodb+srv://db.internal/?tls=false"}, ["mongodb"]),
        ({"NEVERSTALE_MONGODB__URI": "mongodb://127.0.0.1,db.internal/?replicaSet=rs0"}, ["mongodb"]),
        ({"NEVERSTALE_MONGODB__URI": "mongodb://db.internal/?tls=true&tlsInsecure=true"}, ["mongodb"]),
        (
            {"NEVERSTALE_MONGODB__URI": "mongodb://db.internal/?tls=true&tlsAllowInvalidCertificates=true"},
            ["mongodb"],
        ),
        ({PLAIN: "redis+sentinel://:p@s1.internal,s2.internal/mymaster/0"}, ["redis"]),
        ({PLAIN: "rediss+sentinel://:p@s1.internal,s2.internal/mymaster/0"}, []),
        ({PLAIN: "rediss+sentinel://s1.internal/mymaster/0"}, ["redis"]),
        ({PLAIN: "redis+sentinel://127.0.0.1/mymaster/0"}, []),
        ({PLAIN: "rediss://u:p@cache.internal:6379/0"}, []),
    ],
)
def test_each_way_to_write_an_address_is_understood(changes: dict[str, str], expected: list[str]) -> None:
    assert said(**SAFE | changes) == expected


def test_a_certificate_tells_kafka_who_we_are() -> None:
    from neverstale.settings import Kafka, Settings

    kafka = {"bootstrap_servers": "k1.internal:9093", "security_protocol": "SSL"}
    assert [one.subject for one in exposed(Settings(kafka=Kafka.model_validate(kafka)))] == ["kafka"]
    kafka["ssl_certfile"] = __file__
    assert list(exposed(Settings(kafka=Kafka.model_validate(kafka)))) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_api_that_everybody_reaches_should_have_limits(host: str) -> None:
    assert said(NEVERSTALE_API__HOST=host) == ["settings"]
    limited = {"NEVERSTALE_API__HOST": host, "NEVERSTALE_LIMITS__REQUESTS_PER_SECOND": "10"}
    assert said(**limited) == []
    assert said(**limited, NEVERSTALE_API__PUBLIC_PAGES="docs") == []
    assert said(**limited, NEVERSTALE_API__PUBLIC_PAGES="all") == ["settings"]


OURS = ("api.host", "console.host", "service.host")
"""Every address that we listen on."""


def test_every_address_that_we_listen_on_is_known_here_and_local_unless_told_otherwise() -> None:
    settings, _ = load({})
    assert {name for name in fields() if name.rpartition(".")[2] == "host"} == set(OURS)
    assert all(is_local(getattr(settings, name.partition(".")[0]).host) for name in OURS)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "host.internal"])
def test_no_port_is_reached_from_outside_without_a_word_by_who_listens_there_and_by_check(
    name: str, host: str
) -> None:
    settings, _ = load({f"NEVERSTALE_{name.upper().replace('.', '__')}": host})
    role = name.partition(".")[0].replace("service", "watcher")
    with capture_logs() as logs:
        say_exposed(settings, role)
    assert [log["event"] for log in logs] == ["exposed"] and host in logs[0]["reason"]
    assert logs[0]["log_level"] == "warning"
    [finding] = check_exposure(settings)
    assert finding.level == "warning" and host in finding.message and finding.remedy.startswith("export ")


def test_a_role_speaks_of_its_own_ports_only() -> None:
    settings, _ = load({"NEVERSTALE_API__HOST": "0.0.0.0", "NEVERSTALE_CONSOLE__HOST": "0.0.0.0"})
    spoken = {role: [one.setting for one in exposed(settings, role)] for role in ("watcher", "api", "console")}
    assert spoken == {"watcher": [], "api": ["limits.requests_per_second"], "console": ["console.host"]}


@pytest.mark.parametrize(("proxies", "said_of"), [("0", ["api.host"]), ("1", [])])
def test_credentials_of_callers_in_plain_text_are_said_unless_a_proxy_is_known(
    tmp_path: Path, proxies: str, said_of: list[str]
) -> None:
    environ = {"API__HOST": "0.0.0.0", "LIMITS__REQUESTS_PER_SECOND": "10", "LIMITS__TRUSTED_PROXIES": proxies}
    environ["CALLERS__KEYS_FILE"] = str(tmp_path / "keys.json")
    settings, _ = load({f"NEVERSTALE_{name}": value for name, value in environ.items()})
    assert [one.setting for one in exposed(settings)] == said_of


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("*", False),
        ("", False),
        ("10.0.0.1", False),
        ("db.internal", False),
    ],
)
def test_only_loopback_is_local(host: str, local: bool) -> None:
    assert is_local(host) is local
