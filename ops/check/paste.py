"""Remedies as lines to paste into a shell. None of them shows a secret."""

import shlex
from urllib.parse import urlsplit

from neverstale.settings import MongoDB, RedisSettings
from neverstale.settings.redis_url import sentinel_of
from neverstale.settings.sources import variable


def export(setting: str, value: object) -> str:
    """Sets a setting: `export NEVERSTALE_KAFKA__PARTITIONS=4`."""
    return f"export {variable(setting)}={shlex.quote(str(value))}"


def redis_cli(settings: RedisSettings, command: str) -> str:
    """Has Redis do a command; behind sentinels the one that they call the master."""
    url = settings.url.get_secret_value()
    named = sentinel_of(url)
    if named is None:
        return f"redis-cli -u {_address('redis.url', url)} {command}"
    first = named.addresses[0]
    question = f"--raw SENTINEL get-master-addr-by-name {shlex.quote(named.master)}"
    master = f"$(redis-cli -h {shlex.quote(first.host)} -p {first.port} {question} | sed '1s/^/-h /;2s/^/-p /')"
    password = "REDISCLI_AUTH=PASSWORD " if named.password else ""
    return f"{password}redis-cli {master} -n {named.database} {command}"


def mongosh(settings: MongoDB, script: str) -> str:
    """Has MongoDB do a line of JavaScript."""
    return f"mongosh {_address('mongodb.uri', settings.uri.get_secret_value())} --eval {shlex.quote(script)}"


def _address(setting: str, url: str) -> str:
    """Where a server is; by its variable if the address holds a password."""
    return f'"${variable(setting)}"' if "@" in urlsplit(url).netloc else shlex.quote(url)
