"""Commands that look and change nothing: `check`, `settings`, `status`. Only `check --create-indexes` creates."""

import asyncio
from typing import Annotated

import typer

from neverstale.errors import Misconfigured
from ops.cli.options import AsJson, CatalogFile, Config, catalog_of, settings_from


def check(
    config: Config = None,
    catalog: CatalogFile = None,
    offline: Annotated[bool, typer.Option("--offline", help="Check the files only, ask no server.")] = False,
    create_indexes: Annotated[
        bool, typer.Option("--create-indexes", help="Create what lists, counters and rankings lack.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the catalog, the settings and the three servers."""
    from ops.check.check import check as find
    from ops.check.check import print_findings

    settings, _ = settings_from(config, catalog)
    if offline and create_indexes:
        raise Misconfigured("--create-indexes", "no server is asked with --offline", "leave one of them out")
    found = find(settings, catalog_of(settings), offline=offline, create_indexes=create_indexes)
    findings = asyncio.run(found)
    print_findings(findings, as_json=as_json)
    raise typer.Exit(any(finding.level == "problem" for finding in findings))


def settings(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print every setting with its value and where it comes from."""
    from ops.settings_report import print_settings

    print_settings(*settings_from(config, catalog), as_json=as_json)


def status(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print servers, roles, watermarks and lag."""
    from ops.status import gather, print_status

    settings, _ = settings_from(config, catalog)
    found = asyncio.run(gather(settings, catalog_of(settings)))
    print_status(found, as_json=as_json)
    raise typer.Exit(0 if found.ok else 1)
