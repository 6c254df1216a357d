"""`neverstale check`: catalog, settings and servers, each finding with its remedy."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.markup import escape

from neverstale.catalog import Catalog
from neverstale.settings import Settings
from neverstale.settings_sources import variable
from ops.check.findings import Finding
from ops.check.indexes import check_indexes
from ops.check.kafka import check_kafka
from ops.check.mongodb import check_mongodb
from ops.check.redis import check_redis
from ops.terminal.output import console, print_json, table

_STYLE = {"ok": "green", "warning": "yellow", "problem": "bold red"}


async def check(
    settings: Settings, catalog: Catalog, *, offline: bool = False, create_indexes: bool = False
) -> list[Finding]:
    """All findings. The files were read and validated before, or there would be no settings and no catalog."""
    findings = [_declared(settings, catalog), *_leases(settings)]
    if offline:
        return findings
    servers = await asyncio.gather(
        _check_mongodb(settings, catalog, create_indexes), check_kafka(settings.kafka), check_redis(settings.redis)
    )
    return findings + [finding for server in servers for finding in server]


async def _check_mongodb(settings: Settings, catalog: Catalog, create_indexes: bool) -> list[Finding]:
    findings = await check_mongodb(settings.mongodb, catalog)
    if any(finding.level == "problem" for finding in findings):
        return findings
    return findings + await check_indexes(settings.mongodb, catalog, create=create_indexes)


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """As JSON: `{ok, findings: [{subject, level, message, remedy}]}`; `ok` allows warnings."""
    if as_json:
        ok = all(finding.level != "problem" for finding in findings)
        print_json({"ok": ok, "findings": [asdict(finding) for finding in findings]})
        return
    shown = table("", "", "finding", "remedy")
    for finding in findings:
        level = f"[{_STYLE[finding.level]}]{finding.level}[/]"
        shown.add_row(level, finding.subject, escape(finding.message), escape(finding.remedy))
    console().print(shown)


def _declared(settings: Settings, catalog: Catalog) -> Finding:
    resources, collections = len(catalog.resources), len(catalog.collections)
    counted = f"{resources} resource{'s' * (resources > 1)} on {collections} collection{'s' * (collections > 1)}"
    return Finding("catalog", "ok", f"{settings.catalog}: {counted} of {catalog.database}")


def _leases(settings: Settings) -> Iterable[Finding]:
    """A fill that comes after its lease is refused: no harm, but work for nothing."""
    read_ms = settings.mongodb.read_timeout_ms
    for setting, lease_ms in (
        ("api.lease_ms", settings.api.lease_ms),
        ("consumer.lease_ms", settings.consumer.lease_ms),
    ):
        if lease_ms < read_ms:
            yield Finding(
                "settings",
                "warning",
                f"{setting} ({lease_ms}) is below mongodb.read_timeout_ms ({read_ms}): slow reads fill nothing",
                f"raise {variable(setting)}",
            )
