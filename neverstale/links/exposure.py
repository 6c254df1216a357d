"""What the settings alone tell of who can listen to our links, and forge what we believe.

Said at the start of each role, by `neverstale check` and by `doctor`: nothing crosses a network in plain text by
accident.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pymongo.uri_parser import parse_uri

from neverstale.settings import Settings
from neverstale.settings.redis_url import sentinel_of

ANY: Final = frozenset(("*", "-::*", "0.0.0.0", "::", "::0", "[::]"))


@dataclass(frozen=True, slots=True)
class Exposed:
    """One thing that somebody else may do, and the setting that ends it."""

    subject: Literal["mongodb", "kafka", "redis", "settings"]
    message: str
    setting: str
    better: str
    """A value for it."""


def exposed(settings: Settings, role: str | None = None) -> Iterable[Exposed]:
    """By this role; `None`: by any of them."""
    yield from _to_mongodb(settings)
    yield from _to_kafka(settings)
    yield from _to_redis(settings)
    if role in (None, "api"):
        yield from _by_the_api(settings)
    if role in (None, "console"):
        yield from _by_the_console(settings)
    yield from _to_operators(settings)


def _to_mongodb(settings: Settings) -> Iterable[Exposed]:
    uri = settings.mongodb.uri.get_secret_value()
    options: Mapping[str, Any] = {}
    if uri.startswith("mongodb+srv"):  # which means TLS, unless it is said otherwise
        hosts = [urlsplit(uri).hostname or ""]
        options = {"tls": "tls=false" not in uri.lower() and "ssl=false" not in uri.lower()}
    else:
        parsed = parse_uri(uri)
        hosts, options = [host for host, _ in parsed["nodelist"]], parsed["options"]
    if all(is_local(host) for host in hosts):
        return
    better = "mongodb://USER:PASSWORD@HOST:27017/?replicaSet=rs0&tls=true"
    if not options.get("tls"):
        message = "documents and passwords cross the network in plain text"
        yield Exposed("mongodb", message, "mongodb.uri", better)
    elif options.get("tlsInsecure") or options.get("tlsAllowInvalidCertificates"):
        message = "whoever stands between can say that he is MongoDB: its certificate is not checked"
        yield Exposed("mongodb", message, "mongodb.uri", better)


def _to_kafka(settings: Settings) -> Iterable[Exposed]:
    kafka = settings.kafka
    hosts = [server.strip().rpartition(":")[0] for server in kafka.bootstrap_servers.split(",")]
    if all(is_local(host) for host in hosts):
        return
    if kafka.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        message = f"Kafka is spoken to in plain text ({kafka.security_protocol}): keys of documents can be read"
        yield Exposed("kafka", message, "kafka.security_protocol", "SASL_SSL")
    if not kafka.security_protocol.startswith("SASL") and kafka.ssl_certfile is None:
        message = "Kafka is not told who we are: whoever reaches it may write changes that we believe"
        yield Exposed("kafka", message, "kafka.security_protocol", "SASL_SSL")


def _to_redis(settings: Settings) -> Iterable[Exposed]:
    url = settings.redis.url.get_secret_value()
    parts, named = urlsplit(url), sentinel_of(url)
    if named is not None:
        hosts, password = [address.host for address in named.addresses], named.password
    else:
        hosts, password = [parts.hostname or ""], parts.password
    if parts.scheme == "unix" or all(is_local(host) for host in hosts):
        return
    better = f"rediss://USER:PASSWORD@{hosts[0]}:6379/0"
    if not parts.scheme.startswith("rediss"):
        message = "cached documents and the password cross the network in plain text"
        yield Exposed("redis", message, "redis.url", better)
    if not password:
        message = "Redis asks us for no password: whoever reaches it may write what we serve"
        yield Exposed("redis", message, "redis.url", better)


def _by_the_api(settings: Settings) -> Iterable[Exposed]:
    api = settings.api
    if is_local(api.host):
        return
    if not settings.limits.requests_per_second:
        message = f"the API listens on {api.host}, and no caller is limited"
        yield Exposed("settings", message, "limits.requests_per_second", "100")
    if api.public_pages == "all":
        message = f"/metrics and details of /readyz are shown to whoever reaches the API on {api.host}"
        yield Exposed("settings", message, "api.public_pages", "none")

    if settings.callers.configured and not settings.limits.trusted_proxies:
        message = (
            f"keys and tokens of callers reach the API on {api.host} in plain text: put a proxy with TLS before it"
        )
        yield Exposed("settings", message, "api.host", "127.0.0.1")


def _by_the_console(settings: Settings) -> Iterable[Exposed]:
    host = settings.console.host
    if not is_local(host):
        message = f"the console on {host} asks nobody who he is, and shows keys of documents"
        yield Exposed("settings", message, "console.host", "127.0.0.1")


def _to_operators(settings: Settings) -> Iterable[Exposed]:
    host = settings.service.host
    if not is_local(host):
        message = (
            f"/metrics and /readyz of each role are shown to whoever reaches {host}: let only operators reach it"
        )
        yield Exposed("settings", message, "service.host", "127.0.0.1")


def is_local(host: str) -> bool:
    """Whether nobody but this machine can be meant, or reach it."""
    host = host.strip("[]")
    if host in ANY or host == "":
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "localhost.localdomain") or host.startswith("/")
