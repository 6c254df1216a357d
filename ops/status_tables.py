"""`neverstale status`, as tables or as JSON."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from neverstale.ops.auditor.report import audit_table
from neverstale.ops.redis.held import Register
from neverstale.ops.redis.nodes import NodeStatus
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.status import CellStatus, PartitionStatus, ServerStatus, Status, spoken_age
from neverstale.ops.terminal.output import console, plain, print_json, table


def print_status(status: Status, *, as_json: bool) -> None:
    """As JSON: `{ok, servers, roles, partitions, registers, audit, problems, cells, nodes, all_roles}`."""
    if as_json:
        print_json({"ok": status.ok, **asdict(status)})
        return
    out = console()
    out.print(_servers(status.servers))
    silent = "unknown while redis is down" if any(s.name == "redis" and s.problem for s in status.servers) else "none"
    if status.nodes:
        out.print()
        out.print(_nodes_table(status.nodes))
    for title, rows in (
        ("role", _roles_table(status.roles) if status.roles else None),
        ("partition", _partitions_table(status.partitions) if status.partitions else None),
        *((("cell", _cells_table(status.cells)),) if status.cells else ()),
        ("register", _registers_table(status.registers) if status.registers else None),
        ("audit of the last hour", audit_table(status.audit["resources"]) if status.audit else None),
    ):
        out.print()
        out.print(rows or f"[bold]{title}[/]\n{silent}")
    for problem in status.problems:
        out.print(f"[bold red]problem[/]  {plain(problem)}")


def _servers(servers: list[ServerStatus]) -> Table:
    shown = table("server", "state", "")
    for server in servers:
        facts = ", ".join(f"{name} {value}" for name, value in server.facts.items())
        state = "[bold red]down[/]" if server.problem else "[green]up[/]"
        shown.add_row(server.name, state, plain(server.problem or facts))
    return shown


def _roles_table(roles: list[RoleStatus]) -> Table:
    shown = table("role", "instance", "url", "up for", "version")
    for role in roles:
        up_for = spoken_age(int(time.time() * 1000) - role.started_ms)
        shown.add_row(role.role, plain(role.instance), plain(role.url), up_for, role.version)
    return shown


def _partitions_table(partitions: list[PartitionStatus]) -> Table:
    shown = table("partition", "watermark", "age", "lag")
    several = len({part.group for part in partitions}) > 1
    for part in partitions:
        age = "" if part.age_ms is None else spoken_age(part.age_ms)
        lag = "unknown" if part.lag is None else str(part.lag)
        name = f"{part.group}/{part.partition}" if several else str(part.partition)
        shown.add_row(name, part.watermark or "unknown", age, lag)
    return shown


def _nodes_table(nodes: Sequence[NodeStatus]) -> Table:
    shown = table("node", "role", "slots", "state", "")
    for one in nodes:
        state = "[bold red]down[/]" if one.problem else "[green]up[/]"
        memory = f"version {one.version}, {(one.used_bytes or 0) / 2**20:.1f} MiB"
        shown.add_row(one.node, one.role, str(one.slots or ""), state, plain(one.problem or memory))
    return shown


def _cells_table(cells: Sequence[CellStatus]) -> Table:
    shown = table("cell", "holds", "node", "watermark", "age")
    for one in cells:
        holds = "documents" if one.resource is None else f"derived of {one.resource}"
        age = "" if one.age_ms is None else spoken_age(one.age_ms)
        shown.add_row(plain(one.cell), plain(holds), one.node, one.watermark or plain(one.problem or "unknown"), age)
    return shown


def _registers_table(registers: Sequence[Register]) -> Table:
    """Of many cells the lowest of each, and how many do not know it."""
    shown = table("register", "version")
    for name in dict.fromkeys(one.name for one in registers):
        held = [one.version for one in registers if one.name == name]
        known = [version for version in held if version is not None]
        lacking = f", unknown in {len(held) - len(known)} of {len(held)} cells" if 0 < len(known) < len(held) else ""
        shown.add_row(plain(name), (min(known) if known else "unknown") + lacking)
    return shown
