"""Commands that start something and run until they are told to end: `up`, `demo`, `run`."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neverstale.ops.cli.options import (
    CatalogFile,
    Config,
    catalog_of,
    config_file,
    settings_from,
)

if TYPE_CHECKING:
    from neverstale.catalog import Catalog
    from neverstale.role.renewal import Renewal
    from neverstale.settings import Settings

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
    AUDITOR = "auditor"
    CONSOLE = "console"


Broker = Annotated[
    BrokerChoice, typer.Option("--broker", help="Apache Kafka, the embedded broker, or the first that runs here.")
]


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
    console_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: a free one.", show_default="console.port, 8010")
    ] = None,
    consumers: Count = 1,
    api_workers: Annotated[int | None, typer.Option(min=1, show_default="api.workers, 1")] = None,
    broker: Broker = BrokerChoice.AUTO,
    demo: Annotated[
        bool, typer.Option("--demo", help="Load a week of flights, with its catalog, and play it slowly.")
    ] = False,
) -> None:
    """Start everything here: MongoDB, Kafka, Redis, watcher, consumers, API; stop it all on Ctrl-C."""
    from neverstale.errors import Misconfigured
    from neverstale.ops.demo.flights.play import demo_catalog
    from neverstale.ops.up import UpOptions
    from neverstale.ops.up import up as start

    if demo and catalog is not None:
        raise Misconfigured("--catalog", "the demo has a catalog of its own", "drop --catalog, or drop --demo")
    settings, origins = settings_from(config, demo_catalog() if demo else catalog)
    options = UpOptions(
        data=data,
        catalog=settings.catalog,
        settings=settings,
        origins=origins,
        config=config_file(config),
        api_port=settings.api.port if api_port is None else api_port,
        mongo_port=mongo_port,
        redis_port=redis_port,
        kafka_port=kafka_port,
        console_port=settings.console.port if console_port is None else console_port,
        consumers=consumers,
        api_workers=api_workers or settings.api.workers,
        broker=broker.value,
        demo=demo,
    )
    raise typer.Exit(asyncio.run(start(options)))


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
    show: Annotated[bool, typer.Option("--open", help="Show the departures board in a browser meanwhile.")] = False,
) -> None:
    """Replay a week of departures through the whole pipeline and check every answer."""
    from neverstale.ops.demo.main import DemoOptions
    from neverstale.ops.demo.main import demo as play

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
        open=show,
    )
    raise typer.Exit(play(options))


def play(config: Config = None) -> None:
    """Load a week of flights into the MongoDB of the settings, and play it slowly until Ctrl-C."""
    from neverstale.ops.demo.flights.play import demo_catalog
    from neverstale.ops.demo.flights.play import play as play_week

    settings, _ = settings_from(config, demo_catalog())
    asyncio.run(play_week(settings.mongodb.uri.get_secret_value()))


def run(
    role: RoleName,
    config: Config = None,
    catalog: CatalogFile = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="Watcher group: of a watcher, or of a consumer, for which it may be repeated."),
    ] = None,
) -> None:
    """Run one role in the foreground until SIGTERM or Ctrl-C."""
    from neverstale.role.renewal import CatalogFile, Renewal

    chosen = _chosen(role, group or [])

    def read() -> "tuple[Settings, Catalog]":
        settings, _ = settings_from(config, catalog, chosen)
        declared = catalog_of(settings)
        _check_groups(role, settings, declared)
        return settings, declared

    settings, declared = read()
    file = CatalogFile(settings.catalog, declared)
    renewal = Renewal(read, file, by_itself=settings.service.reload_catalog)
    code = _run(role, settings, declared, renewal)
    if renewal.granted:
        renewal.start_again()
    raise typer.Exit(code)


def _chosen(role: RoleName, groups: list[str]) -> dict[str, str]:
    """The setting that a role's groups are."""
    from neverstale.errors import Misconfigured

    match role, groups:
        case _, []:
            return {}
        case RoleName.WATCHER, [one]:
            return {"watcher.watches": one}
        case RoleName.WATCHER, _:
            raise Misconfigured("--group", "a watcher is of one group", "start one for each")
        case RoleName.CONSUMER, _:
            return {"consumer.consumes": ",".join(groups)}
    raise Misconfigured("--group", f"the {role.value} is for all watcher groups", "drop it")


def _check_groups(role: RoleName, settings: "Settings", catalog: "Catalog") -> None:
    """Raises `Misconfigured` for groups that the catalog does not have."""
    from neverstale.watcher_groups import consumed_groups, watched_group

    if role is RoleName.WATCHER:
        watched_group(settings, catalog)
    if role is RoleName.CONSUMER:
        consumed_groups(settings, catalog)


def _run(role: RoleName, settings: "Settings", catalog: "Catalog", renewal: "Renewal") -> int:
    match role:
        case RoleName.WATCHER:
            from neverstale.streams.main import run as watch

            return watch(settings, catalog, renewal)
        case RoleName.CONSUMER:
            from neverstale.consumers.main import run as consume

            return consume(settings, catalog, renewal)
        case RoleName.API:
            from neverstale.api.main import run as serve

            return serve(settings, catalog, renewal)
        case RoleName.AUDITOR:
            from neverstale.ops.auditor.main import run as audit

            return audit(settings, catalog, renewal)
        case RoleName.CONSOLE:
            from neverstale.ops.console.main import run as show

            return show(settings, catalog, renewal)
