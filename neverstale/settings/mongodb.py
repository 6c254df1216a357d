"""Section `mongodb`: the replica set."""

import warnings
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    SecretStr,
)

from neverstale.misconfiguration import wrong
from neverstale.settings.section import SettingsSection


def _mongodb_uri(uri: SecretStr) -> SecretStr:
    text = uri.get_secret_value()
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        raise wrong("does not start with mongodb:// or mongodb+srv://", "e.g. mongodb://host:27017/?replicaSet=rs0")
    address, _, options = text.partition("?")
    # An SRV name is resolved when a client connects, not here.
    if "@" in options or (address.startswith("mongodb://") and not _is_accepted(address)):
        raise wrong(
            "is not a connection string of MongoDB",
            "percent-encode user and password; e.g. mongodb://user:p%40ss@host:27017/?replicaSet=rs0",
        )
    for option in filter(None, options.split("&")):
        if not _is_accepted(f"mongodb://host/?{option}"):
            raise wrong(f"the driver refuses its option {option.partition('=')[0]}", "correct its name or value")
    return uri


def _is_accepted(uri: str) -> bool:
    """Whether the driver's own parser takes it; its words are not repeated, they may hold a part of the password."""
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    try:
        with warnings.catch_warnings(action="ignore"):  # The client warns once it is made.
            parse_uri(uri)
    except (PyMongoError, ValueError, OSError):
        return False
    return True


class MongoDB(SettingsSection):
    uri: Annotated[SecretStr, AfterValidator(_mongodb_uri)] = Field(
        SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0"),
        description="Connection string of the replica set.",
    )
    server_selection_timeout_ms: PositiveInt = Field(2000, description="Wait for a usable member, per call.")
    read_timeout_ms: PositiveInt = Field(2000, description="Deadline of one snapshot read, retries included.")
    max_pool_size: PositiveInt = Field(32, description="Connections per process.")
