"""The cards that running roles keep in Redis."""

import asyncio
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.ops import servers
from neverstale.ops.redis.nodes import ClusterView, cluster_view
from neverstale.settings import RedisSettings
from neverstale.settings.redis_url import Address


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A running role's card."""

    role: str
    instance: str
    pid: int
    host: str
    url: str
    started_ms: int
    version: str
    service_url: str = ""
    """Where it answers operators; empty: at `url`."""
    groups: tuple[str, ...] = ()
    """The watcher groups that it works for; empty: all, or not told."""


_ROLE: Final = TypeAdapter(RoleStatus)


async def roles(settings: RedisSettings) -> tuple[list[RoleStatus], bool]:
    """The roles that have a card, and whether all that may hold one have answered. Raises `Outage` if none has."""
    return await roles_told_by(settings, await cluster_view(settings))


async def roles_told_by(settings: RedisSettings, view: ClusterView | None) -> tuple[list[RoleStatus], bool]:
    """The same; `view`: what is known of the cluster, `None`: it is one server."""
    masters: list[Address | None] = [None] if view is None else [one.address for one in view.nodes if one.slots]
    told = await asyncio.gather(*(_told_by(settings, node) for node in masters))
    away = [one for one in told if isinstance(one, Outage)]
    if away and len(away) == len(masters):
        raise away[0]
    found = [role for one in told if not isinstance(one, Outage) for role in one]
    return sorted(found, key=lambda role: (role.role, role.instance)), not away


async def _told_by(settings: RedisSettings, node: Address | None) -> list[RoleStatus] | Outage:
    try:
        async with servers.redis(settings, node=node) as client:
            return await _cards(client, Names(settings.prefix))
    except Outage as outage:
        return outage


async def _cards(client: Redis, names: Names) -> list[RoleStatus]:
    keys = [key async for key in client.scan_iter(match=names.role("*", "*"), count=1000)]
    pipeline = client.pipeline(transaction=False)
    for key in keys:  # of several slots, so each by itself
        pipeline.get(key)
    cards = await pipeline.execute(raise_on_error=False)
    # A card may have run out between the two commands, or its slot may have moved.
    told = (card for card in cards if card and not isinstance(card, RedisError))
    return [role for card in told if (role := _role(card)) is not None]


def _role(card: bytes | str) -> RoleStatus | None:
    """`None`: no role has written this."""
    try:
        return _ROLE.validate_json(card, strict=True)
    except ValidationError:
        return None
