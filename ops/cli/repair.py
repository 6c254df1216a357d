"""Commands that make right what is cached or counted: `resync`, `invalidate`, `rebuild`, `warm`."""

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from neverstale.ops.cli.options import AsJson, CatalogFile, Config, NoWait, ResourceName, catalog_of, settings_from


def resync(
    resource: ResourceName,
    rate: Annotated[float | None, typer.Option(min=1, help="Documents a second, at most.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the one that is under way.")] = False,
    no_wait: NoWait = False,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove everything that is cached of a resource again, little by little. Ctrl-C stops it."""
    from neverstale.ops.repair.resync import ResyncWanted, print_resync
    from neverstale.ops.repair.resync import resync as walk

    settings, _ = settings_from(config, catalog)
    wanted = ResyncWanted(resource, rate, stop=stop, wait=not no_wait)
    done = asyncio.run(walk(settings, catalog_of(settings), wanted, quiet=as_json))
    print_resync(done, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


def invalidate(
    resource: Annotated[str | None, typer.Argument(metavar="RESOURCE", help="As the catalog names it.")] = None,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="As they stand in URLs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every resource.")] = False,
    deadline: Annotated[float, typer.Option(min=0, help="Seconds until it should be applied.")] = 30,
    no_wait: NoWait = False,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Make cached documents stale: some keys, a whole resource, or everything."""
    from neverstale.ops.repair.invalidate import InvalidateWanted, print_invalidation
    from neverstale.ops.repair.invalidate import invalidate as publish

    settings, _ = settings_from(config, catalog)
    wanted = InvalidateWanted(resource, tuple(keys or ()), everything, None if no_wait else deadline)
    done = asyncio.run(publish(settings, catalog_of(settings), wanted))
    print_invalidation(done, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


def rebuild(
    resource: ResourceName,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of a list, counter or ranking; all are rebuilt together.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--check", help="Build nothing: compare every counter and ranking with MongoDB.")
    ] = False,
    no_wait: NoWait = False,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Count the documents of a resource again, for its lists, counters and rankings."""
    if compare:
        _compare(resource, name, config, catalog, as_json=as_json)
    from neverstale.ops.repair.rebuild import print_rebuild
    from neverstale.ops.repair.rebuild import rebuild as build
    from neverstale.role.telemetry import configure_logging

    settings, _ = settings_from(config, catalog)
    configure_logging(settings.service.model_copy(update={"log_level": "warning"}))  # what it does is shown
    done = asyncio.run(build(settings, catalog_of(settings), resource, name, wait=not no_wait, quiet=as_json))
    print_rebuild(done, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


def _compare(
    resource: str, name: str | None, config: Path | None, catalog: Path | None, *, as_json: bool
) -> NoReturn:
    from neverstale.ops.repair.drift import drift, print_drift

    settings, _ = settings_from(config, catalog)
    found = asyncio.run(drift(settings, catalog_of(settings), resource, name))
    print_drift(found, as_json=as_json)
    raise typer.Exit(0 if found.ok else 1)


def warm(
    resource: Annotated[str, typer.Argument(help="What to read into the cache.")],
    source: Annotated[str, typer.Option("--from", help="First pages of all groups of a list: lists.NAME.")] = "",
    pages: Annotated[int, typer.Option(min=1, max=100, help="Of each group.")] = 1,
    most_read: Annotated[int, typer.Option(min=0, max=10_000, help="Documents, those that are read most.")] = 0,
    rate: Annotated[float, typer.Option(min=0, help="Reads a second.", show_default="api.warm_reads_per_second")] = 0,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Read into the cache what will be asked for: as the catalog's `warm` says, or as the options do."""
    from neverstale.ops.repair.warm import WarmWanted, print_warmed
    from neverstale.ops.repair.warm import warm as read

    settings, _ = settings_from(config, catalog)
    wanted = WarmWanted(resource, source, pages, most_read, rate)
    warmed = asyncio.run(read(settings, catalog_of(settings), wanted, quiet=as_json))
    print_warmed(warmed, as_json=as_json)
    raise typer.Exit(0 if warmed.past == 0 else 1)
