"""The API as users run it: `neverstale run api` in a process of its own."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx

from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.role import RoleOptions, RunningRole, start_role
from tests.worlds.api import World


@contextlib.asynccontextmanager
async def api_process(world: World, folder: Path, **variables: str) -> AsyncIterator[RunningRole]:
    """A ready API on the world's servers; killed at the end if it still runs."""
    role = await start_role(options(world, folder, variables))
    try:
        yield role
    finally:
        role.kill()


def options(world: World, folder: Path, variables: Mapping[str, str]) -> RoleOptions:
    settings = world.settings
    environment = {
        "NEVERSTALE_MONGODB__URI": settings.mongodb.uri.get_secret_value(),
        "NEVERSTALE_REDIS__URL": settings.redis.url.get_secret_value(),
        "NEVERSTALE_REDIS__PREFIX": settings.redis.prefix,
        "NEVERSTALE_REDIS__READ_TIMEOUT_MS": str(settings.redis.read_timeout_ms),
        "NEVERSTALE_REDIS__CONNECT_TIMEOUT_MS": str(settings.redis.connect_timeout_ms),
        "NEVERSTALE_CATALOG": str(_written(world, folder / "catalog.toml")),
    }
    return RoleOptions(
        role="api", name="api", data=folder, port=free_port(), environment={**environment, **variables}
    )


def client(role: RunningRole) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=role.url, timeout=20)


def _written(world: World, path: Path) -> Path:
    """The world's catalog as a file."""
    lines = [f'database = "{world.catalog.database}"']
    for resource in world.catalog.resources.values():
        lines += [f"[resources.{resource.name}]", f'key_type = "{resource.key_type}"']
        lines.append(f'on_change = "{resource.on_change}"')
        if resource.fields is not None:
            fields = ", ".join(f"{json.dumps(name)} = {json.dumps(kind)}" for name, kind in resource.fields.items())
            lines.append(f"fields = {{ {fields} }}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
