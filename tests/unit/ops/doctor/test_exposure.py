"""What the settings alone tell of who can reach the servers."""

import pytest

from neverstale.ops.doctor.exposure import declared, is_local
from neverstale.settings.sources import load

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


def said(**environ: str) -> list[tuple[str, str]]:
    found = declared(load(environ)[0])
    return [(one.subject, one.level) for one in found]


def test_on_one_machine_nothing_is_exposed() -> None:
    assert said() == []
    assert said(NEVERSTALE_REDIS__URL="unix:///run/redis.sock") == []


def test_plain_text_beyond_the_machine_is_said_of_each_server() -> None:
    assert said(**FAR) == [
        ("mongodb", "warning"),
        ("kafka", "warning"),
        ("kafka", "warning"),
        ("redis", "warning"),
        ("redis", "problem"),
    ]


def test_tls_and_passwords_leave_nothing_to_say_and_are_never_shown() -> None:
    assert said(**SAFE) == []
    assert "s3cret" not in str(list(declared(load(SAFE | {"NEVERSTALE_API__HOST": "0.0.0.0"})[0])))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_api_that_everybody_reaches_should_have_limits(host: str) -> None:
    assert said(NEVERSTALE_API__HOST=host) == [("settings", "warning")]
    assert said(NEVERSTALE_API__HOST=host, NEVERSTALE_LIMITS__REQUESTS_PER_SECOND="10") == []


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
