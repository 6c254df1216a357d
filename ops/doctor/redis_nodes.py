"""Redis, one server or a cluster: each node by itself, and what they are together."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from pydantic import SecretStr
from redis.asyncio import Redis

from neverstale.errors import Outage
from neverstale.ops import servers
from neverstale.ops.check.findings import Check, Finding, about
from neverstale.ops.check.paste import with_password
from neverstale.ops.doctor import exposure, versions
from neverstale.ops.doctor.asked import asked
from neverstale.ops.doctor.connections import look_at_redis_connections
from neverstale.ops.doctor.redis import look_at_server
from neverstale.ops.redis.nodes import ClusterView, cluster_view
from neverstale.ops.redis.roles import RoleStatus
from neverstale.settings import Settings
from neverstale.settings.redis_url import Address, ClusterUrl, cluster_of

_cluster: Final = about("cluster", "redis")


async def look_at_redis(settings: Settings, roles: Sequence[RoleStatus], cells: int) -> list[Finding]:
    """`cells`: how many there are, each of which every process of the API hears."""
    cluster = cluster_of(settings.redis.url.get_secret_value())
    if cluster is None:
        return await _server(settings, settings, None, roles, cells)
    try:
        view = await cluster_view(settings.redis)
    except Outage as outage:
        return [_cluster.unseen(f"it could not be looked at: {outage.reason}")]
    assert view is not None
    narrowed = [_narrowed(settings, cluster, one.address) for one in view.nodes]
    looks = zip(narrowed, view.nodes, strict=True)
    found = await asyncio.gather(*(_server(settings, of, one.address, roles, cells) for of, one in looks))
    whole = (replace(one, remedy=with_password(one.remedy, cluster)) for one in judge(view))
    return [*whole, *merged([one.name for one in view.nodes], found, cluster)]


async def _server(
    whole: Settings, named: Settings, node: Address | None, roles: Sequence[RoleStatus], cells: int
) -> list[Finding]:
    """`named`: settings in which the URL is that of this node, so that remedies are for it."""
    looks: dict[tuple[Check, ...], Callable[[Redis], Awaitable[list[Finding]]]] = {
        ("versions",): versions.look_at_redis,
        ("memory", "persistence", "replicas", "pubsub"): lambda redis: look_at_server(redis, named),
        ("connections",): lambda redis: look_at_redis_connections(redis, named, roles, cells),
        ("exposure",): lambda redis: exposure.of_redis(redis, named),
    }
    found = await asyncio.gather(
        *(
            asked([about(name, "redis") for name in names], servers.redis(whole.redis, node=node), look)
            for names, look in looks.items()
        )
    )
    return [one for some in found for one in some]


def _narrowed(settings: Settings, cluster: ClusterUrl, node: Address) -> Settings:
    """As if this node were a Redis by itself. Its URL is for remedies: it has no user and no password."""
    host = f"[{node.host}]" if ":" in node.host else node.host
    url = SecretStr(f"{'rediss' if cluster.tls else 'redis'}://{host}:{node.port}")
    return settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": url})})


def merged(names: Sequence[str], found: Sequence[Sequence[Finding]], cluster: ClusterUrl) -> Iterable[Finding]:
    """What was found of each node, with its name; what is alike of several is said once, with the lines of each."""
    alike: dict[Finding, list[tuple[str, str]]] = {}
    for name, some in zip(names, found, strict=True):
        for one in some:
            kind = replace(one, message="well" if one.level == "ok" else one.message, remedy="")
            alike.setdefault(kind, []).append((name, one.remedy))
    for one, whose in alike.items():
        which = ", ".join(name for name, _ in whose)
        if one.level == "ok":
            yield replace(one, message=f"{len(whose)} of {len(names)} nodes are well")
        else:
            message = f"node{'s' * (len(whose) > 1)} {which}: {one.message}"
            remedies = dict.fromkeys(with_password(remedy, cluster) for _, remedy in whose if remedy)
            yield replace(one, message=message, remedy="\n".join(remedies))


def judge(view: ClusterView) -> Iterable[Finding]:
    """What one node says of all of them."""
    found = [*_state(view), *_failed(view), *_alone(view)]
    masters = sum(one.is_master and one.slots > 0 for one in view.nodes)
    yield from found or [_cluster.well(f"{masters} masters hold all slots, each has a replica")]


def _state(view: ClusterView) -> Iterable[Finding]:
    nobody, lost = view.uncovered, sum(one.slots for one in view.nodes if one.fails)
    if view.state != "ok":
        why = (
            f"{nobody} slots are held by no node"
            if nobody
            else f"{lost} slots are those of a node that has failed"
            if lost
            else "too few masters answer one another"
        )
        message = f"the cluster is down ({why}): reads go to MongoDB, as many as it may be asked"
        yield _cluster("problem", "cluster-down", message, _mend(view))
    elif nobody:
        message = f"{nobody} slots are held by no node: what belongs there is read from MongoDB"
        yield _cluster("problem", "slots-uncovered", message, _mend(view))


def _mend(view: ClusterView) -> str:
    """Where a replica of a master that failed lives, it may be promoted; else somebody has to take its slots."""
    promoted = [
        f"redis-cli -h {one.address.host} -p {one.address.port} CLUSTER FAILOVER TAKEOVER"
        for master in view.nodes
        if master.is_master and master.fails and master.slots
        for one in view.replicas_of(master)[:1]
        if not one.fails
    ]
    return "\n".join(promoted) or f"redis-cli --cluster fix {_asked(view)}"


def _asked(view: ClusterView) -> str:
    return f"{view.asked.host}:{view.asked.port}"


def _failed(view: ClusterView) -> Iterable[Finding]:
    for one in view.nodes:
        if not one.fails:
            continue
        if one.is_master and one.slots:
            message = f"master {one.name} has failed: the cells of its {one.slots} slots are read from MongoDB"
            yield _cluster("problem", "node-failed", message, _mend(view))
        else:
            kind = "master" if one.is_master else "replica"
            message = f"{kind} {one.name} has failed"
            forget = f"redis-cli --cluster call {_asked(view)} CLUSTER FORGET {one.id}"
            yield _cluster("warning", "node-failed", message, f"{forget}  # or start it again")


def _alone(view: ClusterView) -> Iterable[Finding]:
    for one in view.nodes:
        if one.is_master and one.slots and not any(not other.fails for other in view.replicas_of(one)):
            message = f"master {one.name} has no replica: if it dies, what its {one.slots} slots hold is read anew"
            add = (
                f"redis-cli --cluster add-node HOST:6379 {_asked(view)} --cluster-slave --cluster-master-id {one.id}"
            )
            yield _cluster("warning", "master-alone", message, add)
