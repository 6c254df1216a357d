"""What the tests of `neverstale doctor` share: servers of their own that they may spoil, and what is found there."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.keys import Names
from neverstale.ops.check.findings import Finding
from neverstale.ops.doctor.doctor import doctor
from neverstale.ops.status import NEEDED
from neverstale.settings import Settings
from neverstale.settings.sources import load

OBSERVED_SECONDS = 0.3


@dataclass(frozen=True)
class Patient:
    """A pipeline, as far as there is one, and who looks at it."""

    environ: dict[str, str]
    catalog: Catalog
    options: dict[str, Any] = field(default_factory=lambda: {"observed_seconds": OBSERVED_SECONDS})

    @property
    def settings(self) -> Settings:
        return load(self.environ)[0]

    async def found(self, *checks: str, **options: Any) -> list[Finding]:
        """What these checks have found, well or not."""
        found = await doctor(self.settings, self.catalog, **(self.options | options))
        return [one for one in found if one.check in checks]

    async def findings(self, *checks: str, **options: Any) -> list[Finding]:
        """What these checks have found that is not well."""
        return [one for one in await self.found(*checks, **options) if one.level != "ok"]

    async def show_cards(self, redis: Redis, *roles: str) -> None:
        """As if these ran; all that are needed if none is named."""
        for number, role in enumerate(roles or NEEDED):
            card = {"role": role, "pid": 1, "host": "h", "url": "", "started_ms": 5, "version": "1"}
            key = Names(self.settings.redis.prefix).role(role, f"h-{number}")
            await redis.set(key, orjson.dumps(card | {"instance": f"h-{number}"}))


def levels(findings: Sequence[Finding]) -> set[tuple[str, str]]:
    return {(one.check, one.level) for one in findings}


async def paste(redis: Redis, findings: Sequence[Finding]) -> None:
    """Do what the remedies say, as far as they are for Redis."""
    for finding in findings:
        for line in finding.remedy.splitlines():
            if line.startswith("redis-cli -u redis://"):
                await execute(redis, *shlex.split(line)[3:])


async def execute(redis: Redis, *command: str) -> None:
    await redis.execute_command(*command)  # type: ignore[no-untyped-call]
