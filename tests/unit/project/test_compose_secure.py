"""docker-compose's profile `secure`: TLS on every link, and the users of docs/security.md. Without an engine."""

import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from neverstale.catalog import Catalog
from neverstale.links.exposure import exposed
from neverstale.ops.privileges import kafka, mongodb, redis
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.ops.secured.files import ADMIN, BROKER, BY_CERTIFICATE, DONE, IN_CONTAINERS, Hosts, write
from neverstale.settings import Settings
from neverstale.settings.sources import load
from tests.support.project import ROOT
from tests.unit.project.test_compose import ENDING, SECURE, services

RUN: Final[tuple[Role, ...]] = ("watcher", "consumer", "api")
CATALOG: Final = Catalog.load(ROOT / "catalog.toml")
SETTINGS: Final = Settings()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("secured") / "root"
    root.mkdir()
    assert write(root, CATALOG, SETTINGS, Hosts())
    return root


def moved(value: Any, root: Path) -> Any:
    """With the volume's files where they are."""
    return json.loads(json.dumps(value).replace("/secured", str(root)))


def environment(role: str, root: Path) -> Mapping[str, str]:
    found: dict[str, str] = moved(services()[f"secure-{role}"]["environment"], root)
    return found


def test_nothing_of_it_runs_unless_it_is_asked_for_and_it_needs_nothing_that_is_not_secured() -> None:
    for name in SECURE:
        service = services()[name]
        assert service["profiles"] == ["secure"], name
        assert set(service["depends_on"]) <= SECURE, name
        for needed, on in service["depends_on"].items():
            ends = "service_completed_successfully" if needed in ENDING else "service_healthy"
            assert on == {"condition": ends}, (name, needed)


def test_servers_are_the_same_as_those_without(made: Path) -> None:
    for name in ("mongo", "kafka", "redis"):
        assert services()[f"secure-{name}"]["image"] == services()[name]["image"]
        assert services()[f"secure-{name}"]["hostname"] == f"secure-{name}" == getattr(Hosts(), name)
    plain, secured = services()["redis"]["command"], services()["secure-redis"]["command"]
    assert plain[1:] == secured[-len(plain) + 1 :]


def test_every_file_that_is_named_is_made(made: Path) -> None:
    named = set(re.findall(r"/secured/[a-z0-9./-]+", json.dumps({name: services()[name] for name in SECURE})))
    assert len(named) > 15
    assert [name for name in named if not (made / name.removeprefix("/secured/")).is_file()] == []


@pytest.mark.parametrize("role", RUN)
def test_settings_of_a_role_are_valid_and_nothing_of_a_link_is_exposed(role: Role, made: Path) -> None:
    settings, origins = load(environment(role, made))
    assert origins["mongodb.uri"].startswith("NEVERSTALE_MONGODB__URI_FILE")
    assert [one.subject for one in exposed(settings, role) if one.subject != "settings"] == []
    uri, url = settings.mongodb.uri.get_secret_value(), settings.redis.url.get_secret_value()
    assert f"rediss://{user_of(role)}:" in url and "secure-redis" in url
    assert ("MONGODB-X509" in uri) == (role == BY_CERTIFICATE) and (f"//{user_of(role)}:" in uri) != (
        role == BY_CERTIFICATE
    )
    if role == BY_CERTIFICATE:
        assert (settings.kafka.security_protocol, settings.kafka.sasl_username) == ("SSL", None)
    elif role in kafka.WITH_USERS:
        assert (settings.kafka.security_protocol, settings.kafka.sasl_username) == ("SASL_SSL", user_of(role))
    shared = (settings.kafka.topic, settings.kafka.group, settings.redis.prefix)
    assert shared == (SETTINGS.kafka.topic, SETTINGS.kafka.group, SETTINGS.redis.prefix)


def test_rights_are_those_of_the_docs(made: Path) -> None:
    passwords = {role: (made / role / "kafka-password").read_text() for role in ROLES}
    users = (made / "redis" / "users.acl").read_text().splitlines()
    expected = [" ".join(("user", *redis.user(role, SETTINGS.redis.prefix, passwords[role]))) for role in ROLES]
    assert users == ["user default off", *expected]
    properties = (made / "kafka" / "server.properties").read_text()
    files = {"keystore": made / "kafka" / "tls.pem", "truststore": made / DONE}
    assert properties.startswith(kafka.SERVER.format(**files, broker=BROKER, admin=ADMIN))
    scram = (made / "kafka" / "scram").read_text().splitlines()
    assert scram == [
        f"--add-scram=SCRAM-SHA-512=[name={user_of(role)},password={passwords[role]}]" for role in kafka.WITH_USERS
    ]
    rights = (made / "kafka" / "rights.sh").read_text()
    assert rights.count("--add ") == kafka.script(SETTINGS.kafka).count("--add ")
    assert all(line.partition("--add")[2] in rights for line in kafka.script(SETTINGS.kafka).splitlines())


def test_roles_and_users_of_mongodb_are_those_of_the_docs(made: Path) -> None:
    text = (made / "mongo" / "healthy.js").read_text()
    commands = json.loads(text[text.index("of [") + 3 : text.index(") {\n  const answer")])
    by_name = {next(iter(command.items())): (where, command) for where, command in commands}
    collections = list(CATALOG.collections)
    for role in ROLES:
        creation = mongodb.creation(role, CATALOG.database, collections)
        assert by_name["createRole", mongodb.name_of(role)] == (CATALOG.database, creation)
    assert len(by_name) == 2 * len(ROLES) and len([where for where, _ in commands if where == "$external"]) == 1
    [certified] = [command for where, command in commands if where == "$external"]
    assert certified["createUser"] == f"CN={user_of(BY_CERTIFICATE)},O=neverstale"


def test_what_is_there_is_kept_and_nobody_else_may_read_it(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert not write(made, CATALOG, SETTINGS, Hosts())
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    for path in made.rglob("*"):
        assert path.name == DONE or not path.stat().st_mode & 0o077, path
    assert not [path for path, text in before.items() if b"PRIVATE KEY" in text and path.name == DONE]


def test_every_password_is_another_one(made: Path) -> None:
    passwords = [(made / role / "kafka-password").read_text() for role in ROLES]
    assert len(set(passwords)) == len(ROLES) and min(map(len, passwords)) >= 40


@pytest.mark.parametrize(
    ("server", "certificate", "client", "host", "fails"),
    [
        ("mongo", "tls.pem", "watcher", "secure-mongo", False),
        ("kafka", "tls.pem", "consumer", "secure-kafka", False),
        ("redis", "tls.crt", "api", "secure-redis", False),
        ("redis", "tls.crt", "api", "elsewhere", True),
        ("mongo", "tls.pem", "operator", "localhost", False),
    ],
)
def test_servers_and_roles_believe_each_other(
    made: Path, server: str, certificate: str, client: str, host: str, fails: bool
) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(made / server / certificate, made / server / "tls.key" if server == "redis" else None)
    theirs.load_verify_locations(made / DONE)
    theirs.verify_mode = ssl.CERT_REQUIRED
    ours = ssl.create_default_context(cafile=made / DONE)
    ours.load_cert_chain(made / client / "tls.crt", made / client / "tls.key")
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        ours.wrap_bio(here, there, server_hostname=host),
        theirs.wrap_bio(there, here, server_side=True),
    ]

    def shake() -> None:
        for end in ends * 4:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

    if fails:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake()
        return
    shake()
    assert ends[0].version() == "TLSv1.3"


def test_owners_are_those_of_the_images() -> None:
    assert [IN_CONTAINERS.owner(name) for name in ("mongo", "kafka", "redis", "api")] == [999, 1000, 999, 10001]
    assert "useradd --uid 10001" in (ROOT / "Dockerfile").read_text()
