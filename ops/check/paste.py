"""Remedies as lines to paste into a shell. None of them shows a secret."""

import re
import shlex
from urllib.parse import urlsplit

from neverstale.settings import MongoDB, RedisSettings
from neverstale.settings.redis_url import ClusterUrl, cluster_of, sentinel_of
from neverstale.settings.sources import variable


def export(setting: str, value: object) -> str:
    """Sets a setting: `export NEVERSTALE_KAFKA__PARTITIONS=4`."""
    return f"export {variable(setting)}={shlex.quote(str(value))}"


def redis_cli(settings: RedisSettings, command: str) -> str:
    """Has Redis do a command; behind sentinels the one that they call the master, in a cluster every node."""
    url = settings.url.get_secret_value()
    if (cluster := cluster_of(url)) is not None:
        first = cluster.addresses[0]
        return with_password(f"redis-cli --cluster call {first.host}:{first.port} {command}", cluster)
    named = sentinel_of(url)
    if named is None:
        return f"redis-cli -u {_address('redis.url', url)} {command}"
    first = named.addresses[0]
    question = f"--raw SENTINEL get-master-addr-by-name {shlex.quote(named.master)}"
    master = f"$(redis-cli -h {shlex.quote(first.host)} -p {first.port} {question} | sed '1s/^/-h /;2s/^/-p /')"
    password = "REDISCLI_AUTH=PASSWORD " if named.password else ""
    return f"{password}redis-cli {master} -n {named.database} {command}"


def with_password(remedy: str, cluster: ClusterUrl) -> str:
    """With the user, and the place for the password, in each line of redis-cli."""
    if not cluster.password:
        return remedy
    user = f" --user {shlex.quote(cluster.username)}" if cluster.username else ""
    asked = f"REDISCLI_AUTH=PASSWORD redis-cli{user} "
    return re.sub(r"^redis-cli ", lambda _: asked, remedy, flags=re.MULTILINE)


def mongosh(settings: MongoDB, script: str) -> str:
    """Has MongoDB do a line of JavaScript."""
    return f"mongosh {_address('mongodb.uri', settings.uri.get_secret_value())} --eval {shlex.quote(script)}"


def _address(setting: str, url: str) -> str:
    """Where a server is; by its variable if the address holds a password."""
    return f'"${variable(setting)}"' if "@" in urlsplit(url).netloc else shlex.quote(url)
