"""`neverstale dlq`: list, show, replay and discard dead letters."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neverstale.ops.cli.options import AsJson, CatalogFile, Config, catalog_of, settings_from

if TYPE_CHECKING:
    from neverstale.settings import Settings

dlq = typer.Typer(help="Records that could not be applied: dead letters.", no_args_is_help=True)

LetterIds = Annotated[list[int] | None, typer.Argument(metavar="ID", min=0, help="As `list` shows them.")]
AllLetters = Annotated[bool, typer.Option("--all", help="All that are neither replayed nor discarded.")]

Group = Annotated[str | None, typer.Option("--group", help="Watcher group whose dead letters these are.")]


def _settings(config: Path | None, catalog: Path | None, group: str | None) -> "Settings":
    """Those of a watcher group."""
    from neverstale.watcher_groups import named_groups

    settings, _ = settings_from(config, catalog)
    if group is None:
        return settings
    (found,) = named_groups(settings, catalog_of(settings), "--group", (group,))
    return found.settings


@dlq.command("list")
def dlq_list(
    limit: Annotated[int, typer.Option(min=1, help="So many of the oldest.")] = 100,
    config: Config = None,
    catalog: CatalogFile = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters that were neither replayed nor discarded."""
    from neverstale.ops.dead_letters.dead_letters import listing
    from neverstale.ops.dead_letters.report import print_listing

    settings = _settings(config, catalog, group)
    print_listing(asyncio.run(listing(settings, catalog_of(settings).database, limit)), as_json=as_json)


@dlq.command("show")
def dlq_show(
    letter: Annotated[int, typer.Argument(metavar="ID", min=0)],
    config: Config = None,
    catalog: CatalogFile = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its whole content."""
    from neverstale.ops.dead_letters.dead_letters import shown
    from neverstale.ops.dead_letters.report import print_letter

    settings = _settings(config, catalog, group)
    held = asyncio.run(shown(settings, letter))
    if held is None:
        print(f"neverstale: {settings.kafka.dead_topic_name} holds no dead letter {letter}", file=sys.stderr)
        raise typer.Exit(1)
    print_letter(held, as_json=as_json)


@dlq.command("replay")
def dlq_replay(
    letters: LetterIds = None,
    everything: AllLetters = False,
    config: Config = None,
    catalog: CatalogFile = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Publish records again where they were; what still cannot be read comes back as a new dead letter."""
    from neverstale.ops.dead_letters.dead_letters import replay
    from neverstale.ops.dead_letters.report import print_done

    ids = _named(letters, everything)
    settings = _settings(config, catalog, group)
    done = asyncio.run(replay(settings, catalog_of(settings).database, ids))
    print_done("replayed", done, as_json=as_json)
    raise typer.Exit(1 if done.refused else 0)


@dlq.command("discard")
def dlq_discard(
    letters: LetterIds = None,
    everything: AllLetters = False,
    config: Config = None,
    catalog: CatalogFile = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters no more; their topic forgets them in its time."""
    from neverstale.ops.dead_letters.dead_letters import discard
    from neverstale.ops.dead_letters.report import print_done

    ids = _named(letters, everything)
    settings = _settings(config, catalog, group)
    done = asyncio.run(discard(settings, catalog_of(settings).database, ids))
    print_done("discarded", done, as_json=as_json)
    raise typer.Exit(1 if done.refused else 0)


def _named(letters: list[int] | None, everything: bool) -> list[int] | None:
    """`None`: all."""
    if bool(letters) == everything:
        raise typer.BadParameter("name dead letters by their IDs, or say --all")
    return letters or None
