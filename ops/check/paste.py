"""Remedies as lines to paste into a shell. None of them shows a secret."""

import shlex
from urllib.parse import urlsplit

from neverstale.settings import MongoDB, RedisSettings
from neverstale.settings.sources import variable


def export(setting: str, value: object) -> str:
    """Sets a setting: `export NEVERSTALE_KAFKA__PARTITIONS=4`."""
    return f"export {variable(setting)}={shlex.quote(str(value))}"


def redis_cli(settings: RedisSettings, command: str) -> str:
    """Has Redis do a command."""
    return f"redis-cli -u {_address('redis.url', settings.url.get_secret_value())} {command}"


def mongosh(settings: MongoDB, script: str) -> str:
    """Has MongoDB do a line of JavaScript."""
    return f"mongosh {_address('mongodb.uri', settings.uri.get_secret_value())} --eval {shlex.quote(script)}"


def _address(setting: str, url: str) -> str:
    """Where a server is; by its variable if the address holds a password."""
    return f'"${variable(setting)}"' if "@" in urlsplit(url).netloc else shlex.quote(url)
