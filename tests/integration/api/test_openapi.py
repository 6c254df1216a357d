"""The API keeps to what it says of itself, whatever it is sent: schemathesis against the served description."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neverstale.catalog import Catalog
from neverstale.catalog.references import Reference
from tests.support.project import ROOT
from tests.worlds.api import World, settings_of
from tests.worlds.hits import Served

CATALOG = ROOT / "catalog.toml"
HOOKS = "tests.integration.api.openapi_hooks"
EXAMPLES = 3
SECONDS = 170
FLIGHT = {
    "_id": "text",
    "carrier": "text",
    "flight": 42,
    "origin": "text",
    "day": "text",
    "sched_dep": datetime(2013, 2, 8, tzinfo=UTC),
    "dep_delay": 7,
    "status": "text",
    "cancelled": False,
}


@pytest.fixture
async def served(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[Served]:
    """Flights of the demo's catalog: every kind of route. The keys are those that the description has as examples."""
    demo = Catalog.load(CATALOG)
    flights = demo.resources["flights"]
    flights = flights.model_copy(update={"refs": {"carrier": Reference(to="flights")}})
    catalog = demo.model_copy(update={"database": database, "resources": {"flights": flights}})
    settings = settings_of(mongo_uri, redis_url, redis_prefix, exports=8)
    async with World.of(settings, catalog) as world:
        await world.write("flights", FLIGHT, FLIGHT | {"_id": "other", "dep_delay": None})
        async with Served.of(world) as served:
            await served.mark()
            yield served


CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 413, 415, 431]

# OpenAPI 3.1 has no word for QUERY, which is answered all the same.
[phases.coverage]
unexpected-methods = ["get", "put", "post", "delete", "options", "patch", "trace"]
"""


@pytest.mark.timeout(SECONDS + 20)
async def test_the_api_keeps_to_its_description(served: Served, tmp_path: Path) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    command = [
        "--config-file",
        str(configuration),
        "run",
        f"http://127.0.0.1:{served.port}/openapi.json",
        "--seed",
        "1",
        "--no-color",
    ]
    command += ["--generation-deterministic", "--no-shrink", "--max-examples", str(EXAMPLES)]
    command += ["--phases", "examples,coverage,fuzzing", "--checks", "all", "--warnings", "off"]
    # Their place is taken by checks of ours, which know what a schema cannot say (`openapi_hooks`).
    command += ["--exclude-checks", "positive_data_acceptance,allow_header_conformance"]
    program = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *command,
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()
