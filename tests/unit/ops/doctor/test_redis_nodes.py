"""What is found of several nodes, told once, with their names and lines for each."""

from neverstale.ops.check.findings import Finding, about
from neverstale.ops.doctor.redis_nodes import merged
from neverstale.settings.redis_url import ClusterUrl

PLAIN = ClusterUrl((), None, None, tls=False)
_memory = about("memory", "redis")


def full(node: str) -> Finding:
    return _memory("problem", "full", "it is full", f"redis-cli -u redis://{node} CONFIG SET maxmemory 0")


def test_what_is_alike_is_said_once_and_what_is_well_is_counted() -> None:
    found = merged(["a:1", "b:1", "c:1"], [[full("a:1")], [_memory.well("1 MiB")], [full("c:1")]], PLAIN)
    problem, well = sorted(found, key=lambda one: one.level, reverse=True)
    assert problem.message == "nodes a:1, c:1: it is full" and len(problem.remedy.splitlines()) == 2
    assert well.message == "1 of 3 nodes are well" and not well.remedy
