"""What administrators paste: lines for each server, for a catalog and its settings, and those of docs/security.md."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from neverstale.catalog import Catalog
from neverstale.ops.privileges import kafka, mongodb, redis
from neverstale.ops.terminal.output import print_json
from neverstale.settings import Settings

SUBJECT: Final = "CN={user},O=neverstale"
_EXAMPLE: Final = Catalog.model_validate(
    {"database": "shop", "resources": {name: {"key_type": "string"} for name in ("orders", "customers")}}
)
_TITLES: Final[dict[redis.Layout, str]] = {
    "one": "Redis: users",
    "cells": 'Redis with `redis.cells = "partition"`: users',
    "cluster": "Redis Cluster: users, on each node",
}


@dataclass(frozen=True, slots=True)
class Page:
    """Lines for one server. `language`: that of the lines."""

    title: str
    language: str
    lines: str


def pages_of(settings: Settings, catalog: Catalog, layouts: Iterable[redis.Layout] = ()) -> Sequence[Page]:
    """Of all servers, with the names of all watcher groups. `layouts`: of Redis; default: what the settings say."""
    database, collections, groups = catalog.database, list(catalog.collections), catalog.groups
    prefix = settings.redis.prefix
    return (
        Page("MongoDB: roles", "js", mongodb.roles_script(database, collections)),
        Page("MongoDB: users with passwords (SCRAM)", "js", mongodb.users_script(database)),
        Page("MongoDB: users by certificate (x.509), instead", "js", mongodb.certified_script(database, SUBJECT)),
        Page("Kafka: properties of a broker", "properties", _server()),
        Page("Kafka: users with passwords (SCRAM)", "sh", kafka.users_script()),
        Page("Kafka: access control lists", "sh", kafka.script(settings.kafka, groups)),
        *(
            Page(_TITLES[layout], "text", redis.script(prefix, layout))
            for layout in layouts or (redis.layout_of(settings.redis),)
        ),
        Page("Redis Sentinel: user, on each sentinel that asks for one", "text", redis.SENTINEL),
    )


def document() -> str:
    """For a catalog of the database `shop` and settings as they are shipped."""
    pages = pages_of(Settings(), _EXAMPLE, ("one", "cells", "cluster"))
    return "\n\n".join(f"### {one.title}\n\n```{one.language}\n{one.lines}\n```" for one in pages)


def print_pages(pages: Sequence[Page], *, as_json: bool) -> None:
    """As JSON: `[{title, language, lines}]`."""
    if as_json:
        print_json([asdict(one) for one in pages])
        return
    print("\n\n".join(f"## {one.title}\n{one.lines}" for one in pages))


def _server() -> str:
    files = {"keystore": "/certificates/kafka.pem", "truststore": "/certificates/ca.pem"}
    return kafka.SERVER.format(**files, broker="kafka", admin="admin").rstrip()
