"""MongoDB, Kafka and Redis with TLS and users, and nothing that they let in without: set up by the very lines that
administrators paste (`neverstale.ops.privileges`)."""

import asyncio
import base64
import json
import os
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from confluent_kafka import admin as confluent_admin
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.links import tls
from neverstale.ops.privileges import kafka as kafka_privileges
from neverstale.ops.privileges import mongodb as mongodb_privileges
from neverstale.ops.privileges import redis as redis_privileges
from neverstale.ops.privileges.kafka import Acl
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.ops.stack.kafka.cluster import KafkaOptions, start_kafka
from neverstale.ops.stack.mongod import find_mongod
from neverstale.ops.stack.ports import LOOPBACK, free_port, listens
from neverstale.ops.stack.process import Launch, RunningProcess, together
from neverstale.ops.stack.redis import find_redis_server
from neverstale.settings import Settings
from tests.support.authority import Authority, Certificate
from tests.support.waiting import eventually

confluent: Any = confluent_admin
"""An administrator's client: aiokafka's makes neither users nor rights."""
ADMIN: Final = "admin"
BROKER: Final = "kafka"
PASSWORD: Final = "s3cret-of-all-tests"
DATABASE: Final = 1
"""Of Redis. Not the first, which nobody selects."""
PATIENT_MS: Final = 10_000
TOKENS: Final = (
    "listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer."
    'OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="kafka";'
)
"""Of a broker that believes tokens which nobody has signed, as Kafka does until it is told who signs them."""


class Servers:
    """The three of them, on loopback. `authority` is the one that they and their clients trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "certificates")
        self.mongod_port, self.redis_port, self.sasl_port, self.tls_port = (free_port() for _ in range(4))
        self.own = self.authority.issue("servers", LOOPBACK, "localhost")
        self.broker = self.authority.issue(BROKER, LOOPBACK, "localhost")
        self.admin = self.authority.issue(ADMIN)
        self.certificates: dict[Role, Certificate] = {role: self.authority.issue(user_of(role)) for role in ROLES}
        self.processes: list[RunningProcess] = []

    async def start(self) -> None:
        await together(self._start_mongod(), self._start_redis(), self._start_kafka())

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    # --- MongoDB

    @property
    def _mongo_tls(self) -> str:
        return f"tls=true&tlsCAFile={quote(str(self.authority.file), safe='')}"

    def mongo_uri(self, userinfo: str, options: str = "") -> str:
        """With a password if `userinfo` is given."""
        at = f"{userinfo}@" if userinfo else ""
        return f"mongodb://{at}{LOOPBACK}:{self.mongod_port}/?replicaSet=rs0&{self._mongo_tls}{options}"

    @property
    def mongo_admin(self) -> str:
        return self.mongo_uri(f"{ADMIN}:{PASSWORD}", "&authSource=admin")

    async def _start_mongod(self) -> None:
        folder = self.folder / "mongod"
        folder.mkdir()
        key = self.folder / "keyfile"
        key.write_text(base64.b64encode(os.urandom(96)).decode())
        key.chmod(0o600)
        argv: list[str | Path] = [find_mongod(), "--dbpath", folder, "--bind_ip", LOOPBACK, "--nounixsocket"]
        argv += ["--port", str(self.mongod_port), "--replSet", "rs0", "--wiredTigerCacheSizeGB", "0.25"]
        argv += ["--setParameter", "diagnosticDataCollectionEnabled=false", "--keyFile", key]
        argv += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", self.own.both, "--tlsCAFile"]
        argv += [self.authority.file, "--tlsAllowConnectionsWithoutCertificates"]
        await self._run("mongod", argv, self.mongod_port)
        # Nobody has a user yet: who asks from the machine itself may make the first one.
        alone = f"mongodb://{LOOPBACK}:{self.mongod_port}/?directConnection=true&{self._mongo_tls}"
        async with AsyncMongoClient[dict[str, Any]](alone) as client:
            members = [{"_id": 0, "host": f"{LOOPBACK}:{self.mongod_port}"}]
            await client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})

            async def elected() -> bool:
                return bool((await client.admin.command("hello"))["isWritablePrimary"])

            await eventually(elected, "there is a primary", 60)
            await client.admin.command("createUser", ADMIN, pwd=PASSWORD, roles=["root"])

    # --- Redis

    @property
    def redis_admin(self) -> Any:
        return Redis(
            host=LOOPBACK,
            port=self.redis_port,
            username=ADMIN,
            password=PASSWORD,
            db=DATABASE,
            ssl=True,
            ssl_ca_certs=str(self.authority.file),
            ssl_certfile=str(self.admin.certificate),
            ssl_keyfile=str(self.admin.key),
        )

    async def _start_redis(self) -> None:
        argv: list[str | Path] = [find_redis_server(), "--port", "0", "--tls-port", str(self.redis_port)]
        argv += ["--bind", LOOPBACK, "--save", "", "--appendonly", "no", "--dir", self.folder]
        argv += ["--tls-cert-file", self.own.certificate, "--tls-key-file", self.own.key]
        argv += ["--tls-ca-cert-file", self.authority.file, "--tls-auth-clients", "yes"]
        argv += ["--user", ADMIN, "on", f">{PASSWORD}", "~*", "&*", "+@all", "--user", "default", "off"]
        await self._run("redis", argv, self.redis_port)

    # --- Kafka

    @cached_property
    def kafka_admin(self) -> Any:
        return confluent.AdminClient(
            {
                "bootstrap.servers": f"{LOOPBACK}:{self.tls_port}",
                "security.protocol": "ssl",
                "log_level": 0,
                "ssl.ca.location": str(self.authority.file),
                "ssl.certificate.location": str(self.admin.certificate),
                "ssl.key.location": str(self.admin.key),
            }
        )

    async def _start_kafka(self) -> None:
        written = kafka_privileges.SERVER.format(
            keystore=self.broker.both, truststore=self.authority.file, broker=BROKER, admin=ADMIN
        )
        shown = tls.Files(self.authority.file, self.admin.certificate, self.admin.key)
        options = KafkaOptions(
            data=self.folder,
            port=self.tls_port,
            listener="TLS",
            more_listeners=f",SASL://{LOOPBACK}:{self.sasl_port}",
            properties=(*written.splitlines(), TOKENS, f"advertised.listeners={self._kafka_listeners}"),
            client={"security_protocol": "SSL", "ssl_context": tls.context_of(shown)},
        )
        self.processes += (await start_kafka(options)).members
        users = [
            confluent.UserScramCredentialUpsertion(
                user_of(role),
                confluent.ScramCredentialInfo(confluent.ScramMechanism.SCRAM_SHA_512, 4096),
                PASSWORD.encode(),
            )
            for role in kafka_privileges.WITH_USERS
        ]
        for made in self.kafka_admin.alter_user_scram_credentials(users).values():
            await asyncio.to_thread(made.result, 30)

    @property
    def _kafka_listeners(self) -> str:
        return f"TLS://{LOOPBACK}:{self.tls_port},SASL://{LOOPBACK}:{self.sasl_port}"

    async def _run(self, name: str, argv: Sequence[str | Path], port: int) -> None:
        launch = Launch(name=name, argv=argv, log=self.folder / "logs" / f"{name}.log", ready=partial(listens, port))
        self.processes.append(await RunningProcess.start(launch))

    # --- what roles are given

    async def allow(self, role: Role, settings: Settings, catalog: Catalog) -> None:
        """All that the docs say, and nothing else."""
        database, collections = catalog.database, list(catalog.collections)
        async with AsyncMongoClient[dict[str, Any]](self.mongo_admin) as client:
            await client[database].command(mongodb_privileges.creation(role, database, collections))
            await client.admin.command(mongodb_privileges.user(role, database, PASSWORD))
            subject = self.certificates[role].subject
            await client["$external"].command(mongodb_privileges.certified(role, database, subject))
        acls = [binding for acl in kafka_privileges.of_role(role, settings.kafka) for binding in bindings(role, acl)]
        if acls:
            for made in self.kafka_admin.create_acls(acls).values():
                await asyncio.to_thread(made.result, 30)
        async with self.redis_admin as redis:
            await redis.execute_command(
                "ACL", "SETUSER", *redis_privileges.user(role, settings.redis.prefix, PASSWORD)
            )

    def settings(self, role: Role, base: Settings, *, certificate: bool = False) -> Settings:
        """Of a role that shows who it is by a certificate or by passwords. Redis wants both."""
        user, shown = user_of(role), self.certificates[role]
        x509 = (
            f"&authMechanism=MONGODB-X509&authSource=%24external&tlsCertificateKeyFile={quote(str(shown.both), '')}"
        )
        uri = self.mongo_uri("", x509) if certificate else self.mongo_uri(f"{user}:{PASSWORD}", "&authSource=admin")
        ca, ours = str(self.authority.file), {"ssl_certfile": shown.certificate, "ssl_keyfile": shown.key}
        kafka: dict[str, Any] = {"ssl_cafile": ca}
        if certificate:
            kafka |= {"bootstrap_servers": f"{LOOPBACK}:{self.tls_port}", "security_protocol": "SSL", **ours}
        else:
            kafka |= {"bootstrap_servers": f"{LOOPBACK}:{self.sasl_port}", "security_protocol": "SASL_SSL"}
            kafka |= {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": user, "sasl_password": PASSWORD}
        redis = {
            "url": f"rediss://{user}:{PASSWORD}@{LOOPBACK}:{self.redis_port}/{DATABASE}",
            "ssl_cafile": ca,
            **ours,
        }
        given = base.model_dump()
        for section, changes in (("mongodb", {"uri": uri}), ("kafka", kafka), ("redis", redis)):
            given[section] |= changes
        return Settings.model_validate(given)

    async def refusals_of_redis(self) -> list[str]:
        """What its users were not allowed to do."""
        async with self.redis_admin as redis:
            log = await redis.acl_log()
        return sorted({f"{one['username']}: {one['reason']} {one['object']}" for one in log})


def bindings(role: Role, acl: Acl) -> list[Any]:
    kind = confluent.ResourceType.TOPIC if acl.kind == "topic" else confluent.ResourceType.GROUP
    return [
        confluent.AclBinding(
            kind,
            acl.name,
            confluent.ResourcePatternType.LITERAL,
            f"User:{user_of(role)}",
            "*",
            confluent.AclOperation[OPERATIONS[operation]],
            confluent.AclPermissionType.ALLOW,
        )
        for operation in acl.operations
    ]


OPERATIONS: Final[dict[str, str]] = {
    "Create": "CREATE",
    "Delete": "DELETE",
    "Describe": "DESCRIBE",
    "DescribeConfigs": "DESCRIBE_CONFIGS",
    "Read": "READ",
    "Write": "WRITE",
}


def token(user: str, seconds: int = 600) -> str:
    """One that nobody has signed."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + seconds})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts), ""])


def showing_token(file: Path) -> dict[str, Any]:
    """What of section `kafka` is different for who shows a token of this file, and no password."""
    return {
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_username": None,
        "sasl_password": None,
        "oauth_token_file": file,
    }
