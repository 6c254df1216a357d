"""One look that fails hides none of the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from neverstale.errors import Outage
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.doctor.asked import asked


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    yield "open"


@pytest.mark.parametrize("error", [Outage("mongodb", "no answer"), KeyError("maxSize"), ValueError("1.x")])
async def test_what_cannot_be_looked_at_is_said_as_such(error: Exception) -> None:
    async def look(client: str) -> list[Finding]:
        raise error

    says = [about("memory", "redis"), about("persistence", "redis")]
    found = await asked(says, server(), look)
    assert [(one.check, one.level) for one in found] == [("memory", "unknown"), ("persistence", "unknown")]


async def test_what_is_found_is_handed_on() -> None:
    async def look(client: str) -> list[Finding]:
        return [about("oplog", "mongodb").well(client)]

    assert [one.message for one in await asked([about("oplog", "mongodb")], server(), look)] == ["open"]
