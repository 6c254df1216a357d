"""Clients of the three servers, with every default that matters set explicitly. Nothing is built at import."""

import asyncio
from collections.abc import Mapping
from ssl import SSLContext
from typing import Any, Final

import hiredis
from pymongo import AsyncMongoClient
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from neverstale import __version__
from neverstale.errors import Misconfigured
from neverstale.links import driver_locks, tls
from neverstale.links.mongodb_tls import RenewedCertificates
from neverstale.sentinels import Sentinels, ToMaster
from neverstale.settings import Kafka, MongoDB, RedisSettings
from neverstale.settings.redis_url import Address, ClusterUrl, Sentinel, cluster_of, sentinel_of

METADATA_MS: Final = 2000
"""A topic that has more partitions, or is there again, is noticed after at most this by clients that use it."""


class _Client(AsyncMongoClient[dict[str, Any]]):
    async def close(self) -> None:
        """To its end, also where whoever closes it is cancelled meanwhile: half closed, it would keep its sockets."""
        await asyncio.shield(asyncio.ensure_future(super().close()))


def mongo_client(settings: MongoDB, **options: Any) -> AsyncMongoClient[dict[str, Any]]:
    """A client for one event loop. Majority everywhere: a write that is rolled back must never be seen."""
    driver_locks.mend()
    certificates = RenewedCertificates()
    client = _Client(
        settings.uri.get_secret_value(),
        appname=f"neverstale/{__version__}",
        tz_aware=True,
        uuidRepresentation="standard",
        datetime_conversion="DATETIME_AUTO",
        serverSelectionTimeoutMS=settings.server_selection_timeout_ms,
        connectTimeoutMS=settings.server_selection_timeout_ms,
        maxPoolSize=settings.max_pool_size,
        readConcernLevel=ReadConcern("majority").level,
        w=WriteConcern("majority").document["w"],
        event_listeners=[certificates],
        **options,
    )
    certificates.watch(client)
    return client


class PackingConnection(Connection):
    """Packs commands in C, as the synchronous client does: 0.4 instead of 3.5 us for an entry to invalidate."""

    def pack_command(self, *args: Any) -> list[bytes]:
        if isinstance(args[0], str) and " " in args[0]:
            args = (*args[0].split(), *args[1:])  # the client names some commands in two words
        return [hiredis.pack_command(args)]


class PackingTlsConnection(PackingConnection):
    """The same over TLS. The client's own one would read the system's authorities for every connection, and its
    certificate once and for all."""

    def __init__(self, *, tls_context: SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls_context = tls_context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls_context}


class MasterConnection(ToMaster, PackingConnection):
    """To the server that the sentinels call the master."""


class MasterTlsConnection(ToMaster, PackingTlsConnection):
    """The same with TLS."""


def redis_client(
    settings: RedisSettings, *, timeout_ms: int, decode_responses: bool = False, node: Address | None = None
) -> Redis:
    """A client that gives up after `timeout_ms` and never retries by itself: what to do about an outage is
    decided by the caller, in one place. `node`: of a Redis Cluster; default: the first that the URL names."""
    timeout = timeout_ms / 1000
    options: dict[str, Any] = {
        "max_connections": settings.max_connections,
        "timeout": timeout,
        "socket_timeout": timeout,
        "socket_connect_timeout": settings.connect_timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "client_name": "neverstale",
        # Neither is any use to us, and each would be further commands, for which a user needs rights.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "decode_responses": decode_responses,
    }
    url = settings.url.get_secret_value()
    pool: BlockingConnectionPool
    if (named := sentinel_of(url)) is not None:
        pool = BlockingConnectionPool(**options, **_to_master(named, settings))
    elif (cluster := cluster_of(url)) is not None:
        pool = BlockingConnectionPool(**options, **_to_node(cluster, node or cluster.addresses[0], settings))
    else:  # unix:// brings a class of its own
        pool = BlockingConnectionPool.from_url(url, connection_class=PackingConnection, **options)
        if url.startswith("rediss:"):
            pool.connection_class = PackingTlsConnection
            pool.connection_kwargs["tls_context"] = _tls_context("redis", settings)
    return Redis.from_pool(pool)


def _to_master(named: Sentinel, settings: RedisSettings) -> dict[str, Any]:
    password = settings.sentinel_password
    connect_seconds = settings.connect_timeout_ms / 1000
    options = {
        "username": settings.sentinel_username,
        "password": None if password is None else password.get_secret_value(),
        "socket_timeout": connect_seconds,
        "socket_connect_timeout": connect_seconds,
        "driver_info": None,
    }
    secured = {"tls_context": _tls_context("redis", settings)} if named.tls else {}
    kind = PackingTlsConnection if named.tls else PackingConnection
    return {
        "connection_class": MasterTlsConnection if named.tls else MasterConnection,
        "sentinels": Sentinels(named, kind, {**options, **secured}),
        **secured,
        "username": named.username,
        "password": named.password,
        "db": named.database,
    }


def _to_node(cluster: ClusterUrl, node: Address, settings: RedisSettings) -> dict[str, Any]:
    secured = {"tls_context": _tls_context("redis", settings)} if cluster.tls else {}
    return {
        "connection_class": PackingTlsConnection if cluster.tls else PackingConnection,
        "host": node.host,
        "port": node.port,
        "username": cluster.username,
        "password": cluster.password,
        **secured,
    }


def kafka_options(settings: Kafka) -> dict[str, Any]:
    """What every aiokafka client (producer, consumer, admin) is given."""
    from neverstale.links import kafka_bootstrap  # brings aiokafka along, of which the API needs nothing

    kafka_bootstrap.mend()
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "client_id": "neverstale",
        "request_timeout_ms": settings.request_timeout_ms,
        "metadata_max_age_ms": METADATA_MS,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _tls_context("kafka", settings)
    if not settings.security_protocol.startswith("SASL"):
        return options
    options["sasl_mechanism"] = settings.sasl_mechanism
    if settings.sasl_mechanism == "OAUTHBEARER":
        from neverstale.links import tokens  # the same

        tokens.mend()
        provider = tokens.provider(settings.oauth_token_provider, settings.oauth_token_file)
        options["sasl_oauth_token_provider"] = provider
    else:
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    return options


def _tls_context(section: str, settings: Kafka | RedisSettings) -> SSLContext:
    password = settings.ssl_key_password
    files = tls.Files(
        settings.ssl_cafile,
        settings.ssl_certfile,
        settings.ssl_keyfile,
        password.get_secret_value() if password is not None else None,
        settings.ssl_check_hostname,
    )
    try:
        return tls.context_of(files)
    except (OSError, ValueError) as error:
        # What OpenSSL says may be read, but not understood: which of the files it is, it does not say.
        remedy = "name PEM files that belong together: a certificate, its private key, and who signed the server's"
        raise Misconfigured(f"{section}.ssl_*", f"cannot be used ({error})", remedy) from None
