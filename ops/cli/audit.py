"""`neverstale audit`."""

import asyncio
from typing import Annotated

import typer

from neverstale.ops.cli.options import AsJson, CatalogFile, Config, catalog_of, settings_from


def audit(
    seconds: Annotated[float, typer.Option(min=1, help="How long to ask.")] = 30,
    reads_per_second: Annotated[
        float | None, typer.Option(min=1, help="Answers to check.", show_default="auditor.reads_per_second, 200")
    ] = None,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask as readers do, compare the answers with MongoDB, and say how many nines that proves. Exit code 1: an answer
    was wrong, or none could be checked."""
    from neverstale.ops.auditor.counts import total
    from neverstale.ops.auditor.main import audit_for
    from neverstale.ops.auditor.report import is_ok, print_audit

    settings, _ = settings_from(config, catalog)
    if reads_per_second is not None:
        ours = settings.auditor.model_copy(update={"reads_per_second": reads_per_second})
        settings = settings.model_copy(update={"auditor": ours})
    parts = asyncio.run(audit_for(settings, catalog_of(settings), seconds))
    found = parts.auditor.ledger.all
    print_audit(found, parts.witness.kept, parts.problems(), as_json=as_json)
    raise typer.Exit(0 if is_ok(total(found.values())) else 1)
