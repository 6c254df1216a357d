"""Who can reach the servers, read what is said to them, and write what we believe."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from pymongo.uri_parser import parse_uri
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import export, redis_cli
from neverstale.ops.servers import redis_configs
from neverstale.settings import Settings

ANY: Final = frozenset(("*", "-::*", "0.0.0.0", "::", "::0", "[::]"))

_mongodb, _kafka = about("exposure", "mongodb"), about("exposure", "kafka")
_redis, _api = about("exposure", "redis"), about("exposure", "settings")


def declared(settings: Settings) -> Iterable[Finding]:
    """What the settings alone tell."""
    yield from _to_mongodb(settings)
    yield from _to_kafka(settings)
    yield from _to_redis(settings)
    if not is_local(settings.api.host) and not settings.limits.requests_per_second:
        message = f"the API listens on {settings.api.host}, and no caller is limited"
        yield _api("warning", message, export("limits.requests_per_second", 100))
    if not is_local(settings.service.host):
        message = f"/metrics and /readyz of watchers and consumers listen on {settings.service.host}"
        yield _api("ok", f"{message}: let only your monitoring reach them")


def _to_mongodb(settings: Settings) -> Iterable[Finding]:
    uri = settings.mongodb.uri.get_secret_value()
    hosts = [urlsplit(uri).hostname or ""] if uri.startswith("mongodb+srv") else []
    options: Mapping[str, Any] = {"tls": True} if hosts else {}
    if not hosts:
        parsed = parse_uri(uri)
        hosts, options = [host for host, _ in parsed["nodelist"]], parsed["options"]
    if any(not is_local(host) for host in hosts) and not options.get("tls"):
        remedy = export("mongodb.uri", "mongodb://USER:PASSWORD@HOST:27017/?replicaSet=rs0&tls=true")
        yield _mongodb("warning", "documents and passwords cross the network in plain text", remedy)


def _to_kafka(settings: Settings) -> Iterable[Finding]:
    kafka = settings.kafka
    hosts = [server.strip().rpartition(":")[0] for server in kafka.bootstrap_servers.split(",")]
    if all(is_local(host) for host in hosts):
        return
    if kafka.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        message = f"Kafka is spoken to in plain text ({kafka.security_protocol}): keys of documents can be read"
        yield _kafka("warning", message, export("kafka.security_protocol", "SASL_SSL"))
    if not kafka.security_protocol.startswith("SASL"):
        message = "Kafka is not told who we are: whoever reaches it may write changes that we believe"
        yield _kafka("warning", message, export("kafka.security_protocol", "SASL_SSL"))


def _to_redis(settings: Settings) -> Iterable[Finding]:
    parts = urlsplit(settings.redis.url.get_secret_value())
    if parts.scheme == "unix" or is_local(parts.hostname or ""):
        return
    remedy = export("redis.url", f"rediss://USER:PASSWORD@{parts.hostname}:6379/0")
    if parts.scheme == "redis":
        yield _redis("warning", "cached documents and the password cross the network in plain text", remedy)
    if not parts.password:
        message = "Redis asks us for no password: whoever reaches it may write what we serve"
        yield _redis("problem", message, remedy)


async def of_mongodb(client: AsyncMongoClient[dict[str, Any]]) -> list[Finding]:
    """What the server says of itself."""
    users = (await client.admin.command("connectionStatus"))["authInfo"]["authenticatedUsers"]
    try:
        net = (await client.admin.command("getCmdLineOpts"))["parsed"].get("net", {})
    except OperationFailure:
        return []  # who may not ask is asked who he is
    bound = str(net.get("bindIp", "127.0.0.1")).split(",")
    everywhere = bool(net.get("bindIpAll")) or any(not is_local(address.strip()) for address in bound)
    if everywhere and not users:
        remedy = "start mongod with --auth --keyFile FILE, and create users (docs/security.md)"
        return [_mongodb("problem", "MongoDB listens beyond this machine and asks nobody who he is", remedy)]
    return [_mongodb("ok", "reached only from its own machine" if not everywhere else "asks who comes")]


async def of_redis(client: Redis, settings: Settings) -> list[Finding]:
    """What the server says of itself."""
    try:
        configs = await redis_configs(client, "bind", "protected-mode")
        user: dict[str, Any] | None = await client.acl_getuser("default")
    except ResponseError:
        return []  # a user that may not ask is none that all may be
    addresses = [address.lstrip("-") or "*" for address in str(configs.get("bind") or "*").split()]
    everywhere = any(not is_local(address) for address in addresses) and configs.get("protected-mode") == "no"
    open_to_all = user is not None and all(flag in user["flags"] for flag in ("on", "nopass"))
    if everywhere and open_to_all:
        message = "Redis listens beyond its machine and asks nobody for a password: all that we believe can be forged"
        return [_redis("problem", message, redis_cli(settings.redis, "CONFIG SET protected-mode yes"))]
    return [_redis("ok", "asks who comes" if not open_to_all else "reached only from its own machine")]


def is_local(host: str) -> bool:
    """Whether nobody but this machine can be meant, or reach it."""
    host = host.strip("[]")
    if host in ANY or host == "":
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "localhost.localdomain") or host.startswith("/")
