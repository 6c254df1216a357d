"""A Redis Cluster with TLS, on each node of which the users of all roles have the rights of the docs.

Roles are known by TLS and a password. The administrator comes without, at a port of his own. To Kafka the consumer
shows a token.
"""

from dataclasses import dataclass
from pathlib import Path

from neverstale.ops.privileges import redis as redis_privileges
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.settings import Settings
from tests.support.redis_cluster import RedisCluster, ask, port_of
from tests.worlds.secured import PASSWORD, Servers, showing_token, token
from tests.worlds.secured_pipeline import Place


@dataclass(frozen=True)
class ClusterPlace(Place):
    """A place whose Redis is this cluster."""

    cluster: RedisCluster

    def settings(self, role: Role, *, certificate: bool = False) -> Settings:
        given = super().settings(role, certificate=certificate).model_dump()
        nodes = ",".join(f"{LOOPBACK}:{port_of(node, '--tls-port')}" for node in self.cluster.nodes)
        given["redis"]["url"] = f"rediss+cluster://{user_of(role)}:{PASSWORD}@{nodes}"
        if role == "consumer":
            given["kafka"] |= showing_token(self.cluster.data / "token")
        return Settings.model_validate(given)

    async def allow(self, role: Role, *, but: str = "", nodes: int | None = None) -> None:
        """All that the docs say, on all nodes or the first ones, but this one right."""
        words = redis_privileges.user(role, self.base.redis.prefix, PASSWORD, "cluster")
        for node in self.cluster.nodes[:nodes]:
            await ask(node, "ACL", "SETUSER", *(word for word in words if word != but))

    async def refusals(self) -> list[str]:
        """What its users were not allowed to do."""
        log = [dict(zip(one[::2], one[1::2], strict=True)) for one in await self._logs()]
        return sorted({f"{one[b'username']!r}: {one[b'reason']!r} {one[b'object']!r}" for one in log})

    async def _logs(self) -> list[list[bytes]]:
        return [one for node in self.cluster.nodes for one in await ask(node, "ACL", "LOG")]


async def cluster_for(place: Place, folder: Path) -> ClusterPlace:
    """Three masters."""
    cluster = await RedisCluster.start(folder, replicas=0, more=lambda: _tls(place.servers))
    made = ClusterPlace(place.servers, place.base, place.catalog, cluster)
    (folder / "token").write_text(token(user_of("consumer")))
    for role in ROLES:
        await made.allow(role)
    return made


def _tls(servers: Servers) -> tuple[str, ...]:
    ours = servers.own
    return (
        *("--tls-port", str(free_port()), "--tls-cluster", "yes", "--tls-replication", "yes"),
        *("--tls-cert-file", str(ours.certificate), "--tls-key-file", str(ours.key)),
        *("--tls-ca-cert-file", str(servers.authority.file), "--tls-auth-clients", "yes"),
    )
