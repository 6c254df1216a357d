"""What the tests of `neverstale doctor` share: servers of their own that they may spoil, and what is found there.

Each thing that doctor may find wrong is provoked on a real server by a test that says so (`provokes`); it fails if
doctor did not find that. `tests/unit/ops/check/test_names.py` compares what they say with the list of all names.
"""

import functools
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec

import orjson
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.keys import Names
from neverstale.ops.check.findings import Finding
from neverstale.ops.check.names import DoctorName
from neverstale.ops.doctor.doctor import doctor
from neverstale.ops.status import NEEDED
from neverstale.settings import Settings
from neverstale.settings.sources import load

OBSERVED_SECONDS = 0.3
PROVOKED: Final[dict[str, frozenset[DoctorName]]] = {}
"""Test -> what it provokes. Filled where tests are defined."""
_found: Final[set[str]] = set()
"""What was found wrong in the test that runs."""
Parameters = ParamSpec("Parameters")
Test = Callable[Parameters, Awaitable[None]]


def provokes(*names: DoctorName) -> Callable[[Test[Parameters]], Test[Parameters]]:
    """A test on real servers in which doctor, or check, must find these."""

    def decorated(test: Test[Parameters]) -> Test[Parameters]:
        PROVOKED[test.__qualname__] = frozenset(names)

        @functools.wraps(test)
        async def checked(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
            _found.clear()
            await test(*arguments, **named)
            assert set(names) <= _found, f"not provoked: {sorted(set(names) - _found)}"

        return checked

    return decorated


def noted(findings: Sequence[Finding]) -> list[Finding]:
    """The same; what is wrong in them counts as provoked."""
    _found.update(one.name for one in findings if one.level in ("warning", "problem"))
    return list(findings)


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
        found = noted(await doctor(self.settings, self.catalog, **(self.options | options)))
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
