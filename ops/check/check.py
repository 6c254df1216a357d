"""`neverstale check`: what must hold before anything starts; each finding with its remedy."""

import asyncio
from collections.abc import Iterable
from itertools import chain

from neverstale.catalog import Catalog
from neverstale.ops.check.callers import check_callers
from neverstale.ops.check.exposure import check_exposure
from neverstale.ops.check.findings import Finding, about, has_problem
from neverstale.ops.check.indexes import check_indexes
from neverstale.ops.check.kafka import check_kafka
from neverstale.ops.check.mongodb import check_mongodb
from neverstale.ops.check.paste import export
from neverstale.ops.check.redis import check_redis
from neverstale.ops.check.references import check_references
from neverstale.settings import Settings


async def check(
    settings: Settings, catalog: Catalog, *, offline: bool = False, create_indexes: bool = False
) -> list[Finding]:
    """All findings. The files were read and validated before, or there would be no settings and no catalog."""
    findings = [
        _declared(settings, catalog),
        *_leases(settings),
        *check_callers(settings, catalog),
        *check_exposure(settings),
    ]
    if offline:
        return findings
    servers = await asyncio.gather(
        _check_mongodb(settings, catalog, create_indexes),
        check_kafka(settings, catalog.groups),
        check_redis(settings.redis),
    )
    return findings + list(chain.from_iterable(servers))


async def _check_mongodb(settings: Settings, catalog: Catalog, create_indexes: bool) -> list[Finding]:
    findings = await check_mongodb(settings.mongodb, catalog)
    if has_problem(findings):
        return findings
    findings += await check_indexes(settings.mongodb, catalog, create=create_indexes)
    return findings + await check_references(settings.mongodb, catalog)


def _declared(settings: Settings, catalog: Catalog) -> Finding:
    resources, collections = len(catalog.resources), len(catalog.collections)
    counted = f"{resources} resource{'s' * (resources > 1)} on {collections} collection{'s' * (collections > 1)}"
    return about("declared", "catalog").well(f"{settings.catalog}: {counted} of {catalog.database}")


def _leases(settings: Settings) -> Iterable[Finding]:
    """A fill that comes after its lease is refused: no harm, but work for nothing."""
    read_ms = settings.mongodb.read_timeout_ms
    for setting, lease_ms in (
        ("api.lease_ms", settings.api.lease_ms),
        ("consumer.lease_ms", settings.consumer.lease_ms),
    ):
        if lease_ms < read_ms:
            yield about("declared", "settings")(
                "warning",
                "lease-too-short",
                f"{setting} ({lease_ms}) is below mongodb.read_timeout_ms ({read_ms}): slow reads fill nothing",
                export(setting, read_ms),
            )
