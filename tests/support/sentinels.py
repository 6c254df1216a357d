"""Sentinels as local processes, which watch one Redis."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.ops.stack.process import Launch, RunningProcess
from neverstale.ops.stack.redis import find_redis_server

MASTER: Final = "mymaster"
DOWN_MS: Final = 700
"""A master that is silent for so long is down to one sentinel."""


async def start_sentinel(
    folder: Path, name: str, watched: int, quorum: int = 1, password: str | None = None
) -> RunningProcess:
    """`watched`: the port of the master. `password`: of the sentinel itself."""
    port = free_port()
    own = folder / name
    own.mkdir(parents=True)
    lines = [
        f"port {port}",
        f"bind {LOOPBACK}",
        f"dir {own}",
        f"sentinel monitor {MASTER} {LOOPBACK} {watched} {quorum}",
        f"sentinel down-after-milliseconds {MASTER} {DOWN_MS}",
        f"sentinel failover-timeout {MASTER} 3000",
        *([f"requirepass {password}"] if password else []),
    ]
    written = own / "sentinel.conf"
    written.write_text("\n".join(lines) + "\n")

    async def ready() -> bool:
        with contextlib.suppress(Exception):
            async with Redis(host=LOOPBACK, port=port, password=password, socket_timeout=1) as client:
                return bool(await client.ping())
        return False

    argv: Sequence[str | Path] = (find_redis_server("path"), written, "--sentinel")
    return await RunningProcess.start(
        Launch(name=name, argv=argv, log=folder / "logs" / f"{name}.log", ready=ready, ports=(port,))
    )


def sentinel_url(sentinels: Sequence[RunningProcess]) -> str:
    hosts = ",".join(f"{LOOPBACK}:{sentinel.ports[0]}" for sentinel in sentinels)
    return f"redis+sentinel://{hosts}/{MASTER}/0"
