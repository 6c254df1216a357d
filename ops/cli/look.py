"""Commands that look and change nothing: `acl`, `check`, `diff`, `doctor`, `settings`, `status`, `why` and
`support-bundle`. Only `check --create-indexes` creates."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from neverstale.errors import Misconfigured
from neverstale.ops.cli.options import AsJson, CatalogFile, Config, ResourceName, catalog_of, settings_from


def acl(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print the users, roles and access control lists that the three servers need; no server is asked."""
    from neverstale.ops.privileges.pages import pages_of, print_pages

    settings, _ = settings_from(config, catalog)
    print_pages(pages_of(settings, catalog_of(settings)), as_json=as_json)


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
    from neverstale.ops.check.check import check as find
    from neverstale.ops.check.findings import has_problem, print_findings

    settings, _ = settings_from(config, catalog)
    if offline and create_indexes:
        raise Misconfigured("--create-indexes", "no server is asked with --offline", "leave one of them out")
    found = find(settings, catalog_of(settings), offline=offline, create_indexes=create_indexes)
    findings = asyncio.run(found)
    print_findings(findings, as_json=as_json)
    raise typer.Exit(has_problem(findings))


def diff(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another catalog file.")],
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what another catalog changes, builds anew and makes cold; no server is asked."""
    from neverstale.catalog import Catalog
    from neverstale.ops.diff import differences, print_differences

    settings, _ = settings_from(config, catalog)
    print_differences(differences(catalog_of(settings), Catalog.load(new)), as_json=as_json)


def doctor(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Look for what is wrong with a pipeline that runs, and say what to do about it."""
    from neverstale.ops.check.findings import has_problem, print_findings
    from neverstale.ops.doctor.doctor import doctor as look

    settings, _ = settings_from(config, catalog)
    findings = asyncio.run(look(settings, catalog_of(settings)))
    print_findings(findings, as_json=as_json)
    raise typer.Exit(has_problem(findings))


def settings(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print every setting with its value and where it comes from."""
    from neverstale.ops.settings_report import print_settings

    print_settings(*settings_from(config, catalog), as_json=as_json)


def status(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print servers, roles, watermarks and lag."""
    from neverstale.ops.status import gather
    from neverstale.ops.status_tables import print_status

    settings, _ = settings_from(config, catalog)
    found = asyncio.run(gather(settings, catalog_of(settings)))
    print_status(found, as_json=as_json)
    raise typer.Exit(0 if found.ok else 1)


def why(
    resource: ResourceName,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="As it stands in URLs.")] = None,
    of: Annotated[
        str | None,
        typer.Option("--of", help="A group of lists.NAME, counters.NAME, rankings.NAME or lookups.FIELD."),
    ] = None,
    by: Annotated[list[str] | None, typer.Option("--by", help="Each of the group's fields: origin=JFK.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on telling what happens to it, until Ctrl-C.")] = False,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell the story of one key, or of one group: in MongoDB, Redis, Kafka and the API; and what follows."""
    settings, _ = settings_from(config, catalog)
    if (key is None) == (of is None):
        raise Misconfigured("KEY", "name one key, or one group", "e.g. KEY, or --of counters.NAME --by FIELD=VALUE")
    if of is not None:
        from neverstale.ops.why.group_story import print_why_group, why_group

        group, verdict = asyncio.run(why_group(settings, catalog_of(settings), resource, of, by or ()))
        print_why_group(group, verdict, as_json=as_json)
    else:
        from neverstale.ops.why.why import follow as go_on
        from neverstale.ops.why.why import print_why
        from neverstale.ops.why.why import why as ask

        if follow:
            with suppress(KeyboardInterrupt):
                asyncio.run(go_on(settings, catalog_of(settings), resource, str(key), print))
            raise typer.Exit(0)
        story, verdict = asyncio.run(ask(settings, catalog_of(settings), resource, str(key)))
        print_why(story, verdict, as_json=as_json)
    raise typer.Exit(0 if verdict.ok else 1)


def support_bundle(
    to: Annotated[
        Path | None, typer.Option("--to", help="The file to write.", show_default="neverstale-support.tar.gz")
    ] = None,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Pack settings, findings, status, metrics and versions into one file, without secrets."""
    from neverstale.ops.support_bundle import print_bundle
    from neverstale.ops.support_bundle import support_bundle as pack

    settings, origins = settings_from(config, catalog)
    target = to or Path("neverstale-support.tar.gz")
    if not target.parent.is_dir():
        raise Misconfigured("--to", f"there is no folder {target.parent}", "make it, or name another file")
    names = asyncio.run(pack(settings, origins, catalog_of(settings), target))
    print_bundle(target, names, as_json=as_json)
