"""The command line. Exit codes: 0 as asked, 1 a problem was found, 2 wrong use or a wrong declaration.

Commands only wire: settings, catalog, call. What they call is imported when it is called, so that `--help` is quick.
"""

import asyncio
import gc
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from neverstale import __version__
from neverstale.errors import Misconfigured, NeverstaleError

if TYPE_CHECKING:
    from neverstale.catalog import Catalog
    from neverstale.settings import Settings
    from neverstale.settings_sources import Origins

DEFAULT_CONFIG = Path("neverstale.toml")
COLLECT_AFTER = 100_000

app = typer.Typer(
    name="neverstale",
    help="A MongoDB read cache that knows how fresh it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="NEVERSTALE_CONFIG", help="Settings file.", show_default="neverstale.toml, if there"
    ),
]
CatalogFile = Annotated[Path | None, typer.Option("--catalog", help="Catalog file.", show_default="catalog.toml")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the servers' data; it survives.", show_default="a temporary one"),
]
FixedPort = Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")]
Count = Annotated[int, typer.Option(min=1)]


class BrokerChoice(StrEnum):
    AUTO = "auto"
    KAFKA = "kafka"
    EMBEDDED = "embedded"


class RoleName(StrEnum):
    WATCHER = "watcher"
    CONSUMER = "consumer"
    API = "api"


Broker = Annotated[
    BrokerChoice, typer.Option("--broker", help="Apache Kafka, the embedded broker, or the first that runs here.")
]


def main() -> None:
    """The console script."""
    gc.set_threshold(COLLECT_AFTER)  # importing makes many objects and no garbage; roles have thresholds of their own
    try:
        app()
    except NeverstaleError as error:
        print(f"neverstale: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, Misconfigured) else 1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"neverstale {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def up(
    data: Data = None,
    config: Config = None,
    catalog: CatalogFile = None,
    api_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: a free one.", show_default="api.port, 8000")
    ] = None,
    mongo_port: FixedPort = 0,
    redis_port: FixedPort = 0,
    kafka_port: FixedPort = 0,
    consumers: Count = 1,
    api_workers: Annotated[int | None, typer.Option(min=1, show_default="api.workers, 1")] = None,
    broker: Broker = BrokerChoice.AUTO,
) -> None:
    """Start everything here: MongoDB, Kafka, Redis, watcher, consumers, API; stop it all on Ctrl-C."""
    from ops.up import UpOptions
    from ops.up import up as start

    settings, origins = _settings(config, catalog)
    options = UpOptions(
        data=data,
        catalog=settings.catalog,
        settings=settings,
        origins=origins,
        config=_config_file(config),
        api_port=settings.api.port if api_port is None else api_port,
        mongo_port=mongo_port,
        redis_port=redis_port,
        kafka_port=kafka_port,
        consumers=consumers,
        api_workers=api_workers or settings.api.workers,
        broker=broker.value,
    )
    raise typer.Exit(asyncio.run(start(options)))


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long writers and readers run.")] = 20,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    data: Data = None,
    broker: Broker = BrokerChoice.AUTO,
    consumers: Count = 2,
    readers: Count = 16,
    reads_per_second: Annotated[
        float, typer.Option(min=1, help="Requests per second of all readers, as far as answers come in time.")
    ] = 1000,
    writes_per_second: Annotated[float, typer.Option(min=1, help="Documents written per second.")] = 200,
    chaos: Annotated[bool, typer.Option("--chaos", help="Kill every role and server once.")] = False,
    sabotage: Annotated[
        bool, typer.Option("--sabotage", help="Spoil the cache unseen: the check of the answers must notice.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same choices.")] = 1,
) -> None:
    """Replay a week of departures through the whole pipeline and check every answer."""
    from ops.demo.main import DemoOptions
    from ops.demo.main import demo as play

    options = DemoOptions(
        seconds=seconds,
        json=json,
        data=data,
        broker=broker.value,
        consumers=consumers,
        readers=readers,
        reads_per_second=reads_per_second,
        writes_per_second=writes_per_second,
        chaos=chaos,
        sabotage=sabotage,
        seed=seed,
    )
    raise typer.Exit(play(options))


@app.command()
def run(role: RoleName, config: Config = None, catalog: CatalogFile = None) -> None:
    """Run one role in the foreground until SIGTERM or Ctrl-C."""
    settings, _ = _settings(config, catalog)
    raise typer.Exit(_run(role, settings, _catalog(settings)))


def _run(role: RoleName, settings: "Settings", catalog: "Catalog") -> int:
    match role:
        case RoleName.WATCHER:
            from streams.main import run as watch

            return watch(settings, catalog)
        case RoleName.CONSUMER:
            from consumers.main import run as consume

            return consume(settings, catalog)
        case RoleName.API:
            from api.main import run as serve

            return serve(settings, catalog)


@app.command()
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

    settings, _ = _settings(config, catalog)
    if offline and create_indexes:
        raise Misconfigured("--create-indexes", "no server is asked with --offline", "leave one of them out")
    found = find(settings, _catalog(settings), offline=offline, create_indexes=create_indexes)
    findings = asyncio.run(found)
    print_findings(findings, as_json=as_json)
    raise typer.Exit(any(finding.level == "problem" for finding in findings))


@app.command()
def settings(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print every setting with its value and where it comes from."""
    from ops.settings_report import print_settings

    print_settings(*_settings(config, catalog), as_json=as_json)


@app.command()
def status(config: Config = None, catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """Print servers, roles, watermarks and lag."""
    from ops.status import gather, print_status

    settings, _ = _settings(config, catalog)
    found = asyncio.run(gather(settings, _catalog(settings)))
    print_status(found, as_json=as_json)
    raise typer.Exit(0 if found.ok else 1)


ResourceName = Annotated[str, typer.Argument(metavar="RESOURCE", help="As the catalog names it.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Ask for it, and leave.")]


@app.command()
def resync(
    resource: ResourceName,
    rate: Annotated[float | None, typer.Option(min=1, help="Documents a second, at most.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the one that is under way.")] = False,
    no_wait: NoWait = False,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove everything that is cached of a resource anew, little by little. Ctrl-C stops it."""
    from ops.repair.resync import ResyncWanted, print_resync
    from ops.repair.resync import resync as walk

    settings, _ = _settings(config, catalog)
    wanted = ResyncWanted(resource, rate, stop=stop, wait=not no_wait)
    done = asyncio.run(walk(settings, _catalog(settings), wanted, quiet=as_json))
    print_resync(done, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


@app.command()
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
    from ops.repair.invalidate import InvalidateWanted, print_invalidation
    from ops.repair.invalidate import invalidate as publish

    settings, _ = _settings(config, catalog)
    wanted = InvalidateWanted(resource, tuple(keys or ()), everything, None if no_wait else deadline)
    done = asyncio.run(publish(settings, _catalog(settings), wanted))
    print_invalidation(done, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


@app.command()
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
    """Count the documents of a resource anew, for its lists, counters and rankings."""
    if compare:
        _compare(resource, name, config, catalog, as_json=as_json)
    from neverstale.role.telemetry import configure_logging
    from ops.repair.rebuild import print_rebuild
    from ops.repair.rebuild import rebuild as build

    settings, _ = _settings(config, catalog)
    configure_logging(settings.service.model_copy(update={"log_level": "warning"}))  # what it does is shown
    done = asyncio.run(build(settings, _catalog(settings), resource, name, wait=not no_wait, quiet=as_json))
    print_rebuild(done, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


def _compare(
    resource: str, name: str | None, config: Path | None, catalog: Path | None, *, as_json: bool
) -> NoReturn:
    from ops.repair.drift import drift, print_drift

    settings, _ = _settings(config, catalog)
    found = asyncio.run(drift(settings, _catalog(settings), resource, name))
    print_drift(found, as_json=as_json)
    raise typer.Exit(0 if found.ok else 1)


dlq = typer.Typer(help="Records that could not be applied: dead letters.", no_args_is_help=True)
app.add_typer(dlq, name="dlq")

LetterIds = Annotated[list[int] | None, typer.Argument(metavar="ID", min=0, help="As `list` shows them.")]
AllLetters = Annotated[bool, typer.Option("--all", help="All that are neither replayed nor discarded.")]


@dlq.command("list")
def dlq_list(
    limit: Annotated[int, typer.Option(min=1, help="So many of the oldest.")] = 100,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters that were neither replayed nor discarded."""
    from ops.dead_letters.dead_letters import listing
    from ops.dead_letters.report import print_listing

    settings, _ = _settings(config, catalog)
    print_listing(asyncio.run(listing(settings, _catalog(settings).database, limit)), as_json=as_json)


@dlq.command("show")
def dlq_show(
    letter: Annotated[int, typer.Argument(metavar="ID", min=0)],
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its whole content."""
    from ops.dead_letters.dead_letters import shown
    from ops.dead_letters.report import print_letter

    settings, _ = _settings(config, catalog)
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
    as_json: AsJson = False,
) -> None:
    """Publish records again where they were; what still cannot be read comes back as a new dead letter."""
    from ops.dead_letters.dead_letters import replay
    from ops.dead_letters.report import print_done

    ids = _named(letters, everything)
    settings, _ = _settings(config, catalog)
    done = asyncio.run(replay(settings, _catalog(settings).database, ids))
    print_done("replayed", done, as_json=as_json)
    raise typer.Exit(1 if done.refused else 0)


@dlq.command("discard")
def dlq_discard(
    letters: LetterIds = None,
    everything: AllLetters = False,
    config: Config = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters no more; their topic forgets them in its time."""
    from ops.dead_letters.dead_letters import discard
    from ops.dead_letters.report import print_done

    ids = _named(letters, everything)
    settings, _ = _settings(config, catalog)
    done = asyncio.run(discard(settings, _catalog(settings).database, ids))
    print_done("discarded", done, as_json=as_json)
    raise typer.Exit(1 if done.refused else 0)


def _named(letters: list[int] | None, everything: bool) -> list[int] | None:
    """`None`: all."""
    if bool(letters) == everything:
        raise typer.BadParameter("name dead letters by their IDs, or say --all")
    return letters or None


@app.command()
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
    from ops.repair.warm import WarmWanted, print_warmed
    from ops.repair.warm import warm as read

    settings, _ = _settings(config, catalog)
    wanted = WarmWanted(resource, source, pages, most_read, rate)
    warmed = asyncio.run(read(settings, _catalog(settings), wanted, quiet=as_json))
    print_warmed(warmed, as_json=as_json)
    raise typer.Exit(0 if warmed.past == 0 else 1)


def _settings(config: Path | None, catalog: Path | None) -> "tuple[Settings, Origins]":
    from neverstale.settings_sources import load

    return load(os.environ, _config_file(config), {"catalog": catalog} if catalog else {})


def _config_file(config: Path | None) -> Path | None:
    return DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.exists() else config


def _catalog(settings: "Settings") -> "Catalog":
    from neverstale.catalog import Catalog

    return Catalog.load(settings.catalog)


if __name__ == "__main__":
    main()
