"""What `neverstale up` takes from settings, and what it must decide itself.

The roles that it starts read the same environment and settings file as it does. It owns what leads to its own servers
and where roles listen; of what it owns and somebody has set, it says that it is not used.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from neverstale.settings import Settings
from neverstale.settings.sources import DEFAULT, Origins, secret_files, variable

TLS: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password", "ssl_check_hostname")
OWNED: Final = {
    "mongodb.uri": "it starts a mongod of its own",
    "kafka.bootstrap_servers": "it starts a broker of its own",
    "kafka.replication_factor": "its broker is one",
    "kafka.security_protocol": "its broker speaks plainly, on loopback",
    "kafka.sasl_mechanism": "its broker speaks plainly, on loopback",
    "kafka.sasl_username": "its broker speaks plainly, on loopback",
    "kafka.sasl_password": "its broker speaks plainly, on loopback",
    **dict.fromkeys(
        (f"kafka.{name}" for name in ("oauth_token_file", "oauth_token_provider", *TLS)),
        "its broker speaks plainly, on loopback",
    ),
    "kafka.group_instance_id": "it names its consumers",
    "redis.url": "it starts a Redis of its own",
    **dict.fromkeys((f"redis.{name}" for name in TLS), "its Redis speaks plainly, on loopback"),
    "api.host": "it serves on loopback",
    "api.public_pages": "it serves on loopback, and shows everything",
    "console.host": "it serves on loopback",
    "service.host": "it serves on loopback",
    "service.port": "each role gets a free port",
}
"""Setting -> why it is not for anybody else to decide."""


def not_used(origins: Origins) -> list[str]:
    """A sentence for each setting that somebody has set in vain."""
    return [f"{origins[name]} is not used: {why}" for name, why in OWNED.items() if origins[name] != DEFAULT]


def write_settings(target: Path, settings: Settings, origins: Origins, config: Path | None) -> None:
    """A settings file for the roles: what the file `config` sets, without what is owned. The environment they
    inherit, and it goes first, as always."""
    prefix = f"{config}: "
    wanted = [name for name, origin in origins.items() if config and origin == prefix + name and name not in OWNED]
    lines = ["# Written by `neverstale up`, for its roles."]
    lines += _toml((name, _value(settings, name)) for name in wanted)
    target.write_text("\n".join(lines) + "\n")


def blank() -> dict[str, str]:
    """Variables that keep what is owned, and is not set again, from coming out of the environment."""
    files = [name for name, setting in secret_files().items() if setting in OWNED]
    return dict.fromkeys((*map(variable, OWNED), *files), "")


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _toml(values: Iterable[tuple[str, Any]]) -> Iterable[str]:
    # Dotted keys need no tables, so that their order does not matter.
    for name, value in values:
        if isinstance(value, Path):
            value = str(value.resolve())
        elif isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            yield f"{name} = {json.dumps(value, ensure_ascii=False)}"
