"""The files of a secured pipeline: one folder for each server and role, which nobody else can read.

    python -m neverstale.ops.secured.files /secured CATALOG

What is there already is kept, so it may run before every start.
"""

import base64
import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from neverstale.catalog import Catalog
from neverstale.ops.privileges import kafka, mongodb, redis
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.ops.secured.authority import LocalAuthority
from neverstale.settings import Settings

ADMIN: Final = "admin"
BROKER: Final = "kafka"
BY_CERTIFICATE: Final[Role] = "watcher"
"""Shows MongoDB and Kafka a certificate; the others a password."""
DONE: Final = "ca.pem"
"""Written last, and for everybody."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """How servers are called, and as whom their processes run (and those of roles); `None`: as we do."""

    mongo: str = "secure-mongo"
    kafka: str = "secure-kafka"
    redis: str = "secure-redis"
    owners: Mapping[str, int] | None = None

    def owner(self, folder: str) -> int | None:
        return None if self.owners is None else self.owners.get(folder, self.owners["role"])


IN_CONTAINERS: Final = Hosts(owners={"mongo": 999, "kafka": 1000, "redis": 999, "role": 10001})
"""As their images have it."""


def write(root: Path, catalog: Catalog, settings: Settings, hosts: Hosts) -> bool:
    """False: it is there already."""
    if (root / DONE).exists():
        return False
    authority = LocalAuthority(datetime.now(UTC))
    passwords = {role: secrets.token_hex(24) for role in ROLES}
    administrator = secrets.token_hex(24)
    subjects = {}
    for role in ROLES:
        issued = authority.issue(user_of(role))
        subjects[role] = issued.subject
        held = {"tls.crt": issued.certificate, "tls.key": issued.key, "tls.pem": issued.both}
        held |= _secrets_of(role, passwords[role], root, hosts)
        _put(root / role, held, hosts.owner(role))
    files = {
        "mongo": _of_mongo(authority, hosts, administrator, _commands(catalog, passwords, subjects)),
        "kafka": _of_kafka(authority, settings, hosts, passwords, root, catalog.groups),
        "redis": _of_redis(authority, settings, hosts, passwords),
    }
    for server, held in files.items():
        _put(root / server, held, hosts.owner(server))
    whole = root / f".{DONE}"
    whole.write_bytes(authority.certificate)
    whole.chmod(0o644)
    whole.rename(root / DONE)
    return True


def _secrets_of(role: Role, password: str, root: Path, hosts: Hosts) -> dict[str, bytes]:
    user = user_of(role)
    tls = f"replicaSet=rs0&tls=true&tlsCAFile={quote(str(root / DONE), '')}"
    uri = f"mongodb://{user}:{password}@{hosts.mongo}:27017/?authSource=admin&{tls}"
    if role == BY_CERTIFICATE:
        shown = quote(str(root / role / "tls.pem"), "")
        x509 = f"authMechanism=MONGODB-X509&authSource=%24external&tlsCertificateKeyFile={shown}"
        uri = f"mongodb://{hosts.mongo}:27017/?{x509}&{tls}"
    redis_url = f"rediss://{user}:{password}@{hosts.redis}:6379/0"
    found = {"mongodb-uri": uri, "redis-url": redis_url, "kafka-password": password}
    return {name: text.encode() for name, text in found.items()}


def _commands(
    catalog: Catalog, passwords: Mapping[Role, str], subjects: Mapping[Role, str]
) -> list[tuple[str, dict[str, Any]]]:
    """Database and command: roles and users of MongoDB."""
    database, collections = catalog.database, list(catalog.collections)
    found: list[tuple[str, dict[str, Any]]] = []
    for role in ROLES:
        found.append((database, mongodb.creation(role, database, collections)))
        if role == BY_CERTIFICATE:
            found.append(("$external", mongodb.certified(role, database, subjects[role])))
        else:
            found.append(("admin", mongodb.user(role, database, passwords[role])))
    return found


_MONGO_SCRIPT: Final = """\
// Healthy means: there is a primary, and everybody has a user. The first who comes, from the machine itself, may make
// the first user; who comes later is the administrator.
const admin = db.getSiblingDB("admin")
const known = () => {{ try {{ return admin.auth({user}, {password}) }} catch (error) {{ return false }} }}
const alone = !known()
if (alone) {{
  try {{ rs.initiate({{ _id: "rs0", members: [{{ _id: 0, host: {host} }}] }}) }} catch (error) {{
    if (error.codeName !== "AlreadyInitialized") throw error
  }}
}}
if (!db.hello().isWritablePrimary) quit(1)
if (alone) {{
  admin.runCommand({{ createUser: {user}, pwd: {password}, roles: ["root"] }})
  if (!known()) quit(1)
}}
for (const [name, command] of {commands}) {{
  const answer = (() => {{
    try {{ return db.getSiblingDB(name).runCommand(command) }} catch (error) {{ return error }}
  }})()
  if (!answer.ok && answer.code !== 51002 && answer.code !== 51003) throw answer // it is there already
}}
quit(0)
"""


def _of_mongo(
    authority: LocalAuthority, hosts: Hosts, password: str, commands: list[tuple[str, dict[str, Any]]]
) -> dict[str, bytes]:
    script = _MONGO_SCRIPT.format(
        user=json.dumps(ADMIN),
        password=json.dumps(password),
        host=json.dumps(f"{hosts.mongo}:27017"),
        commands=json.dumps(commands, indent=1),
    )
    return {
        "tls.pem": authority.issue("mongo", hosts.mongo, "localhost").both,
        "keyfile": base64.b64encode(os.urandom(96)),
        "healthy.js": script.encode(),
    }


def _of_kafka(
    authority: LocalAuthority,
    settings: Settings,
    hosts: Hosts,
    passwords: Mapping[Role, str],
    root: Path,
    groups: Iterable[str],
) -> dict[str, bytes]:
    keystore, truststore = root / "kafka" / "tls.pem", root / DONE
    listeners = f"TLS://{hosts.kafka}:9093,SASL://{hosts.kafka}:9094"
    properties = kafka.SERVER.format(keystore=keystore, truststore=truststore, broker=BROKER, admin=ADMIN)
    properties += _KRAFT.format(listeners=listeners)
    scram = [
        f"--add-scram=SCRAM-SHA-512=[name={user_of(role)},password={passwords[role]}]" for role in kafka.WITH_USERS
    ]
    store = "ssl.{which}store.type=PEM\nssl.{which}store.location={path}\n"
    administrator = root / "kafka" / "admin.pem"
    connect = "security.protocol=SSL\n" + store.format(which="key", path=administrator)
    connect += store.format(which="trust", path=truststore)
    rights = kafka.script(
        settings.kafka, groups, f"--bootstrap-server {hosts.kafka}:9093 --command-config {root}/kafka/admin"
    )
    return {
        "tls.pem": authority.issue(BROKER, hosts.kafka, "localhost").both,
        "admin.pem": authority.issue(ADMIN).both,
        "admin": connect.encode(),
        "server.properties": properties.encode(),
        "cluster": base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"="),
        "scram": "\n".join(scram).encode(),
        "rights.sh": f"set -e\n{rights}\n".encode(),
    }


_KRAFT: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9095
controller.listener.names=CONTROLLER
listeners=TLS://:9093,SASL://:9094,CONTROLLER://:9095
advertised.listeners={listeners}
log.dirs=/var/lib/kafka/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


def _of_redis(
    authority: LocalAuthority, settings: Settings, hosts: Hosts, passwords: Mapping[Role, str]
) -> dict[str, bytes]:
    layout = redis.layout_of(settings.redis)
    users = [
        ["default", "off"],
        *(redis.user(role, settings.redis.prefix, passwords[role], layout) for role in ROLES),
    ]
    issued = authority.issue("redis", hosts.redis, "localhost")
    lines = "".join(f"user {' '.join(words)}\n" for words in users)
    return {"tls.crt": issued.certificate, "tls.key": issued.key, "users.acl": lines.encode()}


def _put(folder: Path, held: Mapping[str, bytes], owner: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in held.items():
        path = folder / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_bytes(content)
        if owner is not None:
            os.chown(path, owner, owner)
    if owner is not None:
        os.chown(folder, owner, owner)


def main(root: str, catalog: str) -> None:
    made = write(Path(root), Catalog.load(Path(catalog)), Settings(), IN_CONTAINERS)
    print("certificates, users and rights were made" if made else "they are there already")


if __name__ == "__main__":
    main(*sys.argv[1:])
