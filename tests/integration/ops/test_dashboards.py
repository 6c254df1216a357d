"""Every query of the dashboards and alerts, asked of a Prometheus that has watched all roles at work."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn
import yaml
from starlette.applications import Starlette

from neverstale.ops.stack.ports import LOOPBACK, answers_http, free_port
from neverstale.role.service import Health, health_routes
from tests.support.project import ROOT
from tests.support.waiting import eventually
from tests.worlds.neighbourhood import Neighbourhood, catalog_of, settings_of

PROMETHEUS: Final = shutil.which("prometheus")
DEPLOY: Final = ROOT / "deploy"

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not on PATH")


def queries() -> dict[str, str]:
    """What is asked -> where it stands."""
    found: dict[str, str] = {}
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            found |= {target["expr"]: f"{path.stem}: {panel['title']}" for target in panel["targets"]}
    rules = yaml.safe_load((DEPLOY / "prometheus" / "neverstale.rules.yml").read_text())
    return found | {rule["expr"]: rule["alert"] for group in rules["groups"] for rule in group["rules"]}


@asynccontextmanager
async def metrics() -> AsyncIterator[str]:
    """Where this process, in which all roles run, shows its metrics."""
    listener = socket.create_server((LOOPBACK, 0))
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=health_routes(Health())), log_config=None, lifespan="off")
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"{LOOPBACK}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that has come to know the target, as all three roles."""
    jobs = [
        {"job_name": f"neverstale-{role}", "static_configs": [{"targets": [target]}]}
        for role in ("api", "watcher", "consumer")
    ]
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS or "",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(partial(answers_http, port, "/-/ready"), "Prometheus is ready", 60)
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=10) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


async def asked(client: httpx.AsyncClient, query: str) -> list[Any]:
    answer = await client.get("/api/v1/query", params={"query": query})
    assert answer.status_code == 200, f"{query}: {answer.text}"
    result: list[Any] = answer.json()["data"]["result"]
    return result


async def test_every_query_is_answered_and_panels_have_something_to_show(
    mongo_uri: str,
    kafka_servers: str,
    redis_url: str,
    topic: str,
    redis_prefix: str,
    database: str,
    tmp_path: Path,
) -> None:
    settings = settings_of(mongo_uri, kafka_servers, redis_url, topic, redis_prefix)
    async with (
        Neighbourhood.of(settings, catalog_of(database), redis_url) as world,
        metrics() as target,
        prometheus(tmp_path, target) as client,
    ):

        async def works() -> bool:
            await world.write()
            await world.http.get("/v1/others/o")
            rates = await asked(client, "sum(rate(neverstale_records_applied_total[1m]))")
            return bool(rates) and float(rates[0]["value"][1]) > 0

        await eventually(works, "Prometheus has seen the roles at work", 60)
        for query in queries():
            await asked(client, query)
        for query in (
            "max by (resource) (neverstale_bound_seconds)",
            "sum(neverstale_watcher_leads)",
            "sum(neverstale_consumer_lag_records)",
            "sum by (how) (rate(neverstale_reads_total[1m]))",
            "sum(rate(neverstale_changes_read_total[1m]))",
            "neverstale_l1_bytes",
            "max by (group, partition) (neverstale_watermark_age_seconds)",
            "min by (job) (neverstale_oplog_headroom_seconds)",
            "max by (resource, phase) (neverstale_generation)",
            "sum by (route) (rate(neverstale_requests_total[1m]))",
            "histogram_quantile(0.99, sum by (le) (rate(neverstale_served_bound_seconds_bucket[5m])))",
            "process_resident_memory_bytes",
        ):

            async def shows(query: str = query) -> bool:
                return bool(await asked(client, query))

            await eventually(shows, f"{queries().get(query, query)} shows something", 30)

        async def thrice() -> bool:
            leads = await asked(client, "sum(neverstale_watcher_leads)")
            return bool(leads) and float(leads[0]["value"][1]) == 3

        await eventually(thrice, "one leads, and is seen three times", 30)
